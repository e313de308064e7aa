//! One client connection, from its first byte to its last.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use hyper::body::Body;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use lifecycle_runtime::BoxError;
use rustix::net::{RecvFlags, recv};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::activity::{Activity, Limits, Watched};
use crate::body::{Answer, InExchange, Upload};

/// What a request handler may know of the connection that a request came by.
#[derive(Clone, Debug)]
pub struct Link {
    /// The client's address.
    pub peer: SocketAddr,
    /// The address it connected to.
    pub local: SocketAddr,
    /// The connection's clock.
    pub activity: Arc<Activity>,
}

/// Answers requests.
pub trait Handler: Clone + Send + Sync + 'static {
    /// The body of its responses.
    type Body: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static;

    /// Answers one request. Errors are responses too.
    fn handle(
        &self,
        request: Request<Upload>,
        link: Link,
    ) -> impl Future<Output = Response<Self::Body>> + Send;
}

/// Why a connection ended.
#[derive(Debug)]
pub enum End {
    /// Either side closed it, in order.
    Closed,
    /// It outstayed a time limit.
    Expired,
    /// It broke: what was under way is lost.
    Failed(hyper::Error),
}

/// Serves a connection until it ends. Once `close` is cancelled it ends after
/// the request it is in, or at once between requests.
pub async fn serve<H: Handler>(
    stream: TcpStream,
    addresses: (SocketAddr, SocketAddr),
    handler: H,
    limits: Limits,
    close: &CancellationToken,
) -> End {
    match timeout(limits.hello, first_byte(&stream, close)).await {
        Ok(true) => {}
        Ok(false) => return End::Closed,
        Err(_) => return End::Expired,
    }
    let activity = Arc::new(Activity::new(limits));
    let (peer, local) = addresses;
    let link = Link {
        peer,
        local,
        activity: activity.clone(),
    };
    let service = service_fn(|request: Request<_>| {
        let (handler, link) = (handler.clone(), link.clone());
        let exchange = InExchange::begin(link.activity.clone());
        async move {
            let request = request.map(|body| Upload::new(body, link.activity.clone()));
            let mut response = handler.handle(request, link).await;
            if close.is_cancelled() {
                // Said here, as the connection may not have been told yet.
                let last = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, last);
            }
            Ok::<_, Infallible>(response.map(|body| Answer::new(body, exchange)))
        }
    });
    let io = TokioIo::new(Watched::new(stream, &activity));
    let mut http = http1::Builder::new();
    // hyper's limit for heads would also end connections between requests, where
    // another limit holds: `Activity` keeps both.
    http.header_read_timeout(None);
    let mut connection = pin!(http.serve_connection(io, service));
    let mut timer = pin!(sleep_until(Instant::now() + limits.idle));
    let mut closing = pin!(close.cancelled());
    let mut told = false;
    loop {
        // In this order: a request that has arrived is taken up before the
        // connection learns that it is to close, and its bytes move the timer.
        tokio::select! {
            biased;
            ended = connection.as_mut() => return ended.map_or_else(End::Failed, |()| End::Closed),
            () = closing.as_mut(), if !told => {
                told = true;
                connection.as_mut().graceful_shutdown();
            }
            () = poll_fn(|cx| activity.poll_expired(cx, timer.as_mut())) => return End::Expired,
        }
    }
}

/// Whether the client began to speak before it left or `close` was cancelled.
/// A client that never speaks is otherwise never timed out.
async fn first_byte(stream: &TcpStream, close: &CancellationToken) -> bool {
    let mut byte = [0];
    tokio::select! {
        biased;
        peeked = stream.peek(&mut byte) => matches!(peeked, Ok(1..)),
        // What the kernel already holds was sent to a server that was still
        // there, so it is answered.
        () = close.cancelled() => holds_bytes(stream) && stream.readable().await.is_ok(),
    }
}

fn holds_bytes(stream: &TcpStream) -> bool {
    let mut byte = [0];
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    matches!(recv(stream, &mut byte, flags), Ok((_, 1..)))
}

//! One client connection, from its first byte to its last: HTTP/1.1 or HTTP/2,
//! whichever it begins with, and what it was upgraded to.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::body::Body;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use lifecycle_runtime::{BoxError, Connection};
use rustix::net::{RecvFlags, recv};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::inbound::activity::{Activity, Limits, Watched};
use crate::inbound::body::{Answer, InExchange, Upload};
use crate::message::request::Ambiguous;
use crate::protection::buffers;

/// A client in HTTP/2 that does not answer a ping in this time is gone.
const PING: Duration = Duration::from_secs(20);

/// What a request handler may know of the connection that a request came by.
#[derive(Clone, Debug)]
pub struct Link {
    /// The client's address.
    pub peer: SocketAddr,
    /// The address it connected to.
    pub local: SocketAddr,
    /// The connection's clock.
    pub activity: Arc<Activity>,
    /// Tells when what has no end of its own should come to one.
    pub connection: Connection,
    /// What the connection becomes after an upgrade.
    pub upgrade: UpgradeTask,
}

/// What follows the last response of a connection that was upgraded. It runs in
/// the connection's task, so that it is counted, drained and cut as part of it.
#[derive(Clone, Default)]
pub struct UpgradeTask(Arc<Mutex<Option<Following>>>);

type Following = Pin<Box<dyn Future<Output = End> + Send>>;

impl UpgradeTask {
    /// Says what follows.
    pub fn set(&self, upgrade: impl Future<Output = End> + Send + 'static) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::pin(upgrade));
    }

    async fn run(&self, activity: &Activity) -> End {
        let upgrade = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        match upgrade {
            Some(upgrade) => {
                activity.upgraded();
                upgrade.await
            }
            None => End::Closed,
        }
    }
}

impl fmt::Debug for UpgradeTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UpgradeTask")
    }
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

    /// Whether another connection can be taken on.
    fn admits(&self) -> bool {
        true
    }

    /// Whether a connection is better closed than kept for another request.
    fn is_pressed(&self) -> bool {
        false
    }
}

/// Why a connection ended.
#[derive(Debug)]
pub enum End {
    /// Either side closed it, in order.
    Closed,
    /// It outstayed a time limit.
    Expired,
    /// It broke: what was under way is lost.
    Failed(BoxError),
}

/// Serves connections.
pub trait Serve: Clone + Send + Sync + 'static {
    /// Serves one until it ends. Once `connection` is told to close it ends as soon
    /// as that loses nothing.
    fn serve(
        self,
        stream: TcpStream,
        addresses: (SocketAddr, SocketAddr),
        limits: Limits,
        connection: Connection,
    ) -> impl Future<Output = End> + Send;

    /// Whether another connection can be taken on.
    fn admits(&self) -> bool;
}

/// HTTP: told to close, a connection ends with the requests it is in, or at once
/// between requests.
impl<H: Handler> Serve for H {
    async fn serve(
        self,
        stream: TcpStream,
        (peer, local): (SocketAddr, SocketAddr),
        limits: Limits,
        connection: Connection,
    ) -> End {
        let activity = Arc::new(Activity::new(limits));
        let doing = activity.clone();
        connection.set_description(move || doing.to_string());
        match timeout(limits.header_read_timeout, first_byte(&stream, &connection)).await {
            Ok(true) => {}
            Ok(false) => return End::Closed,
            Err(_) => return End::Expired,
        }
        let link = Link {
            peer,
            local,
            activity,
            connection,
            upgrade: UpgradeTask::default(),
        };
        match serve_http(stream, self, link.clone()).await {
            End::Closed => link.upgrade.run(&link.activity).await,
            other => other,
        }
    }

    fn admits(&self) -> bool {
        Handler::admits(self)
    }
}

async fn serve_http<H: Handler>(stream: TcpStream, handler: H, link: Link) -> End {
    let (activity, client) = (link.activity.clone(), link.connection.clone());
    let service = service_fn(move |request: Request<_>| {
        let (handler, link) = (handler.clone(), link.clone());
        let exchange = InExchange::begin(link.activity.clone(), request.version());
        answer(handler, request, link, exchange)
    });
    let io = TokioIo::new(Watched::new(stream, activity.clone()));
    let mut http = auto::Builder::new(Streams(client.clone()));
    // hyper's limit for heads would also end connections between requests, where
    // another limit holds: `Activity` keeps both.
    http.http1().header_read_timeout(None);
    http.http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING);
    buffers::bound_server(&mut http);
    let mut connection = pin!(http.serve_connection_with_upgrades(io, service));
    let mut expired = pin!(activity.expired());
    let mut closing = pin!(client.cancelled());
    let mut told = false;
    loop {
        // In this order: a request that has arrived is taken up before the
        // connection learns that it is to close, and its bytes move the timer.
        tokio::select! {
            biased;
            ended = connection.as_mut() => return ended.map_or_else(End::Failed, |()| End::Closed),
            _ = closing.as_mut(), if !told => {
                told = true;
                connection.as_mut().graceful_shutdown();
            }
            () = activity.enough(), if !told => {
                told = true;
                connection.as_mut().graceful_shutdown();
            }
            // It was told, and does not listen.
            () = activity.too_much() => return End::Failed("too many requests were given up".into()),
            () = expired.as_mut() => return End::Expired,
        }
    }
}

/// Runs the tasks of a connection, one for each stream of HTTP/2, as parts of it:
/// drained with it, and gone when it is.
#[derive(Clone, Debug)]
struct Streams(Connection);

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, task: F) {
        // Boxed: what goes around it would otherwise hold it several times over, 73 kB
        // a stream instead of 6.
        let task = Box::pin(task);
        // Refused when the connection is gone, and so is who waits for the task.
        let _ = self.0.spawn(async { drop(task.await) });
    }
}

async fn answer<H: Handler>(
    handler: H,
    request: Request<hyper::body::Incoming>,
    link: Link,
    exchange: InExchange,
) -> Result<Response<Answer<H::Body>>, Infallible> {
    let version = request.version();
    let connection = link.connection.clone();
    connection.set_protocol(if version >= Version::HTTP_2 {
        "HTTP/2"
    } else {
        "HTTP/1"
    });
    link.activity.asked(&request);
    let ambiguous = version < Version::HTTP_2 && link.activity.is_ambiguous();
    let mut request = request.map(|body| Upload::new(body, link.activity.clone()));
    if ambiguous {
        request.extensions_mut().insert(Ambiguous);
    }
    let mut response = handler.handle(request, link).await;
    let last = connection.close_reason().is_some() || handler.is_pressed();
    if last && version < Version::HTTP_2 && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        // Said here, as the connection may not have been told yet.
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    Ok(response.map(|body| Answer::new(body, exchange)))
}

/// Whether the client began to speak before it left or was told to close. A client
/// that never speaks is otherwise never timed out.
async fn first_byte(stream: &TcpStream, connection: &Connection) -> bool {
    let mut byte = [0];
    tokio::select! {
        biased;
        peeked = stream.peek(&mut byte) => matches!(peeked, Ok(1..)),
        // What the kernel already holds was sent to a server that was still
        // there, so it is answered.
        _ = connection.cancelled() => holds_bytes(stream) && stream.readable().await.is_ok(),
    }
}

fn holds_bytes(stream: &TcpStream) -> bool {
    let mut byte = [0];
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    matches!(recv(stream, &mut byte, flags), Ok((_, 1..)))
}

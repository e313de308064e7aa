//! Serves one connection, from its accept to the end of its socket.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::io;
use std::marker::PhantomData;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use http::Request;
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
#[cfg(feature = "h2")]
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
#[cfg(feature = "h2")]
use hyper_util::rt::TokioTimer;
use lifecycle_runtime::{BoxError, CloseReason, Connection};
use tokio::time::Instant;
use tracing::debug;

use crate::accept::Serve;
use crate::activity::Activity;
use crate::app::{AppBody, MakeApp};
use crate::drive::{Drivable, End, Signal, Timer, drive};
use crate::exchange::answer;
use crate::link::{Common, Link};
use crate::listener::tune;
use crate::sniff::Sniffed;
use crate::socket::{SharedSocket, Socket};
use crate::upgrade::Upgrades;
use crate::{Handshake, HttpConnection, Limits, Protocol, RawStream};

/// A guard for the task that serves a connection. When the task ends, the guard closes the socket, even if an upgrade
/// still holds the stream, and drops the upgrade that was to run after the last response.
struct EndOnDrop(Arc<Link>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.activity.wire.cut();
        self.0.upgrades.abandon();
    }
}

/// A server of accepted connections. It makes the handshake, and then answers HTTP requests with the service.
pub(crate) struct Http<H, M, B> {
    pub(crate) handshake: H,
    pub(crate) service: M,
    pub(crate) common: Arc<Common>,
    pub(crate) body: PhantomData<fn() -> B>,
}

impl<H: Clone, M: Clone, B> Clone for Http<H, M, B> {
    fn clone(&self) -> Self {
        Self {
            handshake: self.handshake.clone(),
            service: self.service.clone(),
            common: Arc::clone(&self.common),
            body: PhantomData,
        }
    }
}

impl<H: Handshake, M: MakeApp<B>, B: AppBody> Serve for Http<H, M, B> {
    type Outcome = Result<(), BoxError>;

    fn serve(
        self,
        stream: RawStream,
        connection: Connection,
    ) -> impl Future<Output = Self::Outcome> + Send + 'static {
        let Self {
            handshake,
            service,
            common,
            ..
        } = self;
        async move {
            tune(&stream, &common.limits);
            let Some(room) = common.room.clone() else {
                return serve(stream, connection, handshake, service, common, None).await;
            };
            let guest = room.enter(connection.peer());
            let number = Some(guest.number());
            let mut leaves = pin!(guest.leaves());
            // Boxed, because the task of a connection without a room would otherwise be as large as this.
            let mut served = Box::pin(serve(
                stream,
                connection.clone(),
                handshake,
                service,
                common,
                number,
            ));
            poll_fn(|cx| {
                if leaves.as_mut().poll(cx).is_ready() {
                    // The connection is cut rather than shut down gracefully, because its client may be one that does
                    // not react: `served` is dropped here.
                    connection.close(CloseReason::Idle);
                    return Poll::Ready(Ok(()));
                }
                served.as_mut().poll(cx)
            })
            .await
        }
    }
}

/// Serves a connection until it ends. An upgrade is part of the connection.
async fn serve<H, M, B>(
    raw: RawStream,
    connection: Connection,
    handshake: H,
    service: M,
    common: Arc<Common>,
    guest: Option<u64>,
) -> Result<(), BoxError>
where
    H: Handshake,
    M: MakeApp<B>,
    B: AppBody,
{
    let link = Arc::new(Link {
        connection,
        common,
        local: raw.local_addr(),
        activity: Activity::new(SharedSocket::new(raw)),
        guest,
        upgrades: Upgrades::default(),
    });
    let _end = EndOnDrop(Arc::clone(&link));
    let Link {
        connection,
        common,
        activity,
        ..
    } = &*link;
    // The link holds the connection, so the connection's description must not hold the link.
    let described = Arc::downgrade(&link);
    connection.set_description(move || {
        described
            .upgrade()
            .map_or_else(String::new, |link| link.description())
    });
    // Boxed, so that what every poll looks at is close together.
    let mut signal = Signal::new(connection.clone(), Box::pin(connection.cancelled()));
    let turn = |reason| match reason {
        CloseReason::Drain => common.turn(),
        _ => Duration::ZERO,
    };

    let opening = open(Socket::new(Arc::clone(&link)), handshake, Arc::clone(&link));
    let (stream, protocol) = match within_hello(opening, &link, &mut signal).await {
        Ok(Some(opened)) => opened,
        Ok(None) => return Ok(()),
        Err(error) => {
            debug!(%connection, %error, "a connection did not begin");
            return Ok(());
        }
    };
    let answers = {
        let link = HttpConnection {
            link: Arc::clone(&link),
        };
        let service = service.make(&link)?;
        service_fn(move |request: Request<Incoming>| {
            answer(&service, request, &link, M::SHOWS_CONNECTION)
        })
    };
    let io = TokioIo::new(stream);
    let end = match protocol {
        #[cfg(feature = "h2")]
        Protocol::Http2 => {
            connection.set_protocol("h2");
            activity.speaks_h2();
            // Boxed, because the task of an HTTP/1.1 connection would otherwise be as large as this.
            let http = http2(common, connection).serve_connection(io, answers);
            Box::pin(drive(http, activity, &common.limits, signal, turn)).await
        }
        _ => {
            connection.set_protocol("h1");
            let http = http1(&common.limits)
                .serve_connection(io, answers)
                .with_upgrades();
            drive(http, activity, &common.limits, signal, turn).await
        }
    };
    match end {
        End::Closed => {
            link.upgrades.finish().await?;
            activity.wire.closed().await;
        }
        End::Expired => {
            debug!(%connection, "a connection outstayed its time limit");
            connection.close(CloseReason::Idle);
        }
        End::Abusive => return Err("too many requests were given up".into()),
        // An error of the service ended the connection. That is not the client's doing, so the connection counts as
        // failed.
        End::Broken(error) if error.is_user() => return Err(error.into()),
        End::Broken(error) => debug!(%connection, %error, "a connection broke"),
    }
    Ok(())
}

fn http1(limits: &Limits) -> http1::Builder {
    let mut http = http1::Builder::new();
    // hyper's limit for heads would also end connections between two requests, where another limit applies. `drive`
    // limits the heads instead.
    http.header_read_timeout(None);
    http.max_buf_size(limits.max_head);
    http
}

#[cfg(feature = "h2")]
fn http2(common: &Common, connection: &Connection) -> http2::Builder<Parts> {
    let limits = &common.limits;
    let mut http = http2::Builder::new(Parts(connection.clone()));
    http.timer(TokioTimer::new())
        .keep_alive_interval(limits.ping)
        .keep_alive_timeout(limits.pong)
        .max_concurrent_streams(limits.max_streams)
        .max_send_buf_size(limits.send_buffer)
        .initial_stream_window_size(limits.stream_window)
        // The connection's window has room for the windows of all streams, so a stream whose service does not read
        // holds up no other stream.
        .initial_connection_window_size(limits.connection_window());
    if common.extended_connect {
        http.enable_connect_protocol();
    }
    http
}

/// An executor that spawns the streams of an h2 connection as parts of it. They are drained with the connection, and
/// end when it is gone.
#[cfg(feature = "h2")]
#[derive(Clone, Debug)]
struct Parts(Connection);

#[cfg(feature = "h2")]
impl<F: Future<Output: Send> + Send + 'static> hyper::rt::Executor<F> for Parts {
    fn execute(&self, task: F) {
        // The task is boxed, because the futures that wrap it would otherwise hold its size several times over.
        let task = Box::pin(task);
        // `spawn` refuses the task only if the connection is gone. Then the client is gone, too, and nobody waits for
        // the task.
        let _ = self.0.spawn(async { drop(task.await) });
    }
}

/// Shakes hands with the client and waits for its first bytes of HTTP. Returns `None` if the client closed the
/// connection before.
async fn open<H: Handshake>(
    socket: Socket,
    handshake: H,
    link: Arc<Link>,
) -> io::Result<Option<(Sniffed<H::Stream>, Protocol)>> {
    let (mut stream, said) = handshake.handshake(socket).await?;
    if let Some(socket) = (&mut stream as &mut dyn Any).downcast_mut::<Socket>() {
        socket.keep();
    }
    let mut stream = Sniffed::new(stream, link);
    let protocol = stream.sniff(said).await?;
    Ok(protocol.map(|protocol| (stream, protocol)))
}

/// Waits for `opening`, for at most as long as a client may take to begin. Once the connection should close, a client
/// that has sent bytes has `Limits::close_ack_timeout` left. A silent client has less time, or none.
async fn within_hello<T, F: Future<Output = CloseReason>>(
    opening: impl Future<Output = io::Result<Option<T>>>,
    link: &Link,
    signal: &mut Signal<F>,
) -> io::Result<Option<T>> {
    let (limits, opened) = (&link.common.limits, link.activity.opened());
    let mut opening = pin!(opening);
    let mut timer = Timer::default();
    poll_fn(|cx| {
        if let Poll::Ready(opened) = opening.as_mut().poll(cx) {
            return Poll::Ready(opened);
        }
        let mut deadline = opened + limits.header_read_timeout;
        if let Some(told) = signal.poll(cx, &link.activity, |_| Duration::ZERO) {
            let spoke = link.connection.bytes().0 > 0;
            let given = match told.reason {
                _ if spoke => opened + told.at + limits.close_ack_timeout,
                CloseReason::Drain => opened + limits.keep_alive_after_drain,
                _ => opened,
            };
            deadline = deadline.min(given);
        }
        if deadline > Instant::now() {
            ready!(timer.poll(deadline, cx));
        }
        if signal.told.is_none() {
            link.connection.close(CloseReason::Idle);
        }
        Poll::Ready(Ok(None))
    })
    .await
}

impl<S, I, B> Drivable for http1::UpgradeableConnection<TokioIo<I>, S>
where
    S: hyper::service::HttpService<Incoming, ResBody = B, Error: Into<BoxError>>,
    I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    B: Body<Error: Into<BoxError>> + 'static,
{
    fn start_graceful_shutdown(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

#[cfg(feature = "h2")]
impl<S, I, B> Drivable for http2::Connection<TokioIo<I>, S, Parts>
where
    S: hyper::service::HttpService<
            Incoming,
            ResBody = B,
            Future: Send + 'static,
            Error: Into<BoxError>,
        >,
    I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    fn start_graceful_shutdown(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

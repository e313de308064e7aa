//! One connection, from its accept to its last byte.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
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
use hyper_util::rt::{TokioExecutor, TokioTimer};
use lifecycle_runtime::{BoxError, CloseReason, Connection, Gate, Peer, Spawner};
use tokio::time::Instant;
use tracing::debug;

use crate::activity::Activity;
use crate::app::{App, AppBody};
use crate::drive::{End, Http, Signal, Timer, drive};
use crate::exchange::answer;
use crate::sniff::Sniffed;
use crate::socket::{Raw, SharedSocket, Socket};
use crate::{Handshake, Limits, Protocol};

/// The longest head of a request over HTTP/1.1, and what waits to be written.
const HEAD: usize = 64 * 1024;

/// What a client that does not read, or a handler that does not, can make an h2 connection hold: so many streams, each
/// with what waits to be sent, and the piece that went beyond, and what the client may send before it is read.
#[cfg(feature = "h2")]
const STREAMS: u32 = 100;
#[cfg(feature = "h2")]
const SEND: usize = 32 * 1024;
#[cfg(feature = "h2")]
const WINDOW: u32 = 64 * 1024;

/// The connection that a request came by, in the request's extensions: a [`Connection`], to ask who is at the other end
/// and to wait until it should close, and a place for its upgrades.
///
/// ```
/// use lifecycle_http::{HttpConnection, RequestBody};
/// # fn with(request: http::Request<RequestBody>) -> Option<()> {
/// let connection = request.extensions().get::<HttpConnection>()?.clone();
/// let stop = async move { connection.cancelled().await };
/// # drop(stop); Some(())
/// # }
/// ```
#[derive(Clone)]
pub struct HttpConnection {
    link: Arc<Link>,
}

pub(crate) struct Link {
    pub(crate) connection: Connection,
    pub(crate) activity: Arc<Activity>,
    pub(crate) common: Arc<Common>,
}

/// What the connections of a server share.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) limits: Limits,
    /// The types of streams of lines that are ended.
    pub(crate) lines: Vec<String>,
    pub(crate) exchanges: Gate,
    pub(crate) upgrades: Spawner,
    /// How many were told to close for the drain.
    pub(crate) told: AtomicU64,
}

impl Common {
    /// When the next one of many that were told may close.
    pub(crate) fn turn(&self) -> Duration {
        let turn = self.told.fetch_add(1, Ordering::Relaxed);
        self.limits
            .spread
            .saturating_mul(u32::try_from(turn).unwrap_or(u32::MAX))
    }
}

/// Closes the socket with the task that serves it, in whosever hands it is by then.
struct CutOnDrop(Arc<Activity>);

impl Drop for CutOnDrop {
    fn drop(&mut self) {
        self.0.wire.cut();
    }
}

/// Serves a connection until it ends, its upgrade included.
pub(crate) async fn serve<H, S, B>(
    raw: Raw,
    connection: Connection,
    handshake: H,
    service: S,
    common: Arc<Common>,
) -> Result<(), BoxError>
where
    H: Handshake,
    S: App<B>,
    B: AppBody,
{
    let activity = Arc::new(Activity::new(SharedSocket::new(raw)));
    let _cut = CutOnDrop(Arc::clone(&activity));
    let told = Arc::clone(&activity);
    connection.set_description(move || told.names());
    let limits = common.limits;
    let link = Arc::new(Link {
        connection: connection.clone(),
        activity: Arc::clone(&activity),
        common: Arc::clone(&common),
    });
    let mut closing = pin!(connection.cancelled());
    let mut signal = Signal {
        closing: closing.as_mut(),
        told: None,
    };
    let turn = || match connection.close_reason() {
        Some(CloseReason::Drain) => common.turn(),
        _ => Duration::ZERO,
    };

    let socket = Socket::new(Arc::clone(&activity), connection.clone(), limits);
    let opening = open(socket, handshake, Arc::clone(&activity));
    let (stream, protocol) = match within_hello(opening, &link, &mut signal).await {
        Ok(Some(opened)) => opened,
        Ok(None) => return Ok(()),
        Err(error) => {
            debug!(%connection, %error, "a connection did not begin");
            return Ok(());
        }
    };
    let answers = {
        let link = HttpConnection { link };
        service_fn(move |request: Request<Incoming>| answer(service.clone(), request, link.clone()))
    };
    let io = TokioIo::new(stream);
    let end = match protocol {
        #[cfg(feature = "h2")]
        Protocol::Http2 => {
            connection.set_protocol("h2");
            activity.speaks_h2();
            drive(
                http2(&limits).serve_connection(io, answers),
                &activity,
                &limits,
                signal,
                turn,
            )
            .await
        }
        _ => {
            connection.set_protocol("h1");
            let http = http1().serve_connection(io, answers).with_upgrades();
            drive(http, &activity, &limits, signal, turn).await
        }
    };
    match end {
        End::Closed => activity.wire.closed().await,
        End::Expired => debug!(%connection, "a connection outstayed its time limit"),
        // The service's own error ended it: that is no affair of the client.
        End::Broken(error) if error.is_user() => return Err(error.into()),
        End::Broken(error) => debug!(%connection, %error, "a connection broke"),
    }
    Ok(())
}

fn http1() -> http1::Builder {
    let mut http = http1::Builder::new();
    // hyper's limit for heads would also end connections between requests, where another limit holds.
    http.header_read_timeout(None);
    http.max_buf_size(HEAD);
    http
}

#[cfg(feature = "h2")]
fn http2(limits: &Limits) -> http2::Builder<TokioExecutor> {
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .keep_alive_interval(limits.ping)
        .keep_alive_timeout(limits.pong)
        .max_concurrent_streams(STREAMS)
        .max_send_buf_size(SEND)
        .initial_stream_window_size(WINDOW)
        // All at once, so that streams whose handlers do not read hold up no other.
        .initial_connection_window_size(STREAMS * WINDOW)
        .enable_connect_protocol();
    http
}

/// Shakes hands and waits for the first bytes.
async fn open<H: Handshake>(
    socket: Socket,
    handshake: H,
    activity: Arc<Activity>,
) -> io::Result<Option<(Sniffed<H::Stream>, Protocol)>> {
    let (stream, said) = handshake.handshake(socket).await?;
    let mut stream = Sniffed::new(stream, activity);
    let protocol = stream.sniff(said).await?;
    Ok(protocol.map(|protocol| (stream, protocol)))
}

/// Whoever does not begin in time is closed; and while draining, whoever has not begun.
async fn within_hello<T, F: Future<Output = CloseReason>>(
    opening: impl Future<Output = io::Result<Option<T>>>,
    link: &Link,
    signal: &mut Signal<'_, F>,
) -> io::Result<Option<T>> {
    let (limits, opened) = (&link.common.limits, link.activity.opened());
    let mut opening = pin!(opening);
    let mut timer = Timer::default();
    poll_fn(|cx| {
        if let Poll::Ready(opened) = opening.as_mut().poll(cx) {
            return Poll::Ready(opened);
        }
        let mut deadline = opened + limits.header_read_timeout;
        if let Some(told) = signal.poll(cx, &link.activity, || Duration::ZERO) {
            let spoke = link.connection.bytes().0 > 0;
            let given = match told.reason {
                _ if spoke => opened + told.at + limits.close_ack_timeout,
                CloseReason::Drain => opened + limits.keep_alive_after_drain,
                _ => opened,
            };
            deadline = deadline.min(given);
        }
        if deadline <= Instant::now() {
            return Poll::Ready(Ok(None));
        }
        timer.poll(deadline, cx).map(|()| Ok(None))
    })
    .await
}

impl<S, I, B> Http for http1::UpgradeableConnection<TokioIo<I>, S>
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
impl<S, I, B> Http for http2::Connection<TokioIo<I>, S, TokioExecutor>
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

impl HttpConnection {
    /// Returns the [`Connection`] itself: its counters, its protocol, its age.
    pub fn connection(&self) -> &Connection {
        &self.link.connection
    }

    /// Waits until the connection is told to close, and returns why.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is lost if it is dropped.
    pub async fn cancelled(&self) -> CloseReason {
        self.link.connection.cancelled().await
    }

    /// Returns whether the connection has been told to close.
    pub fn is_cancelled(&self) -> bool {
        self.link.connection.is_cancelled()
    }

    /// Returns why the connection was told to close. `None` as long as it was not.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.link.connection.close_reason()
    }

    /// Tells the connection to close. The first reason stays.
    pub fn close(&self, reason: CloseReason) {
        self.link.connection.close(reason);
    }

    /// Returns the client's address or name.
    pub fn peer(&self) -> &Peer {
        self.link.connection.peer()
    }

    pub(crate) fn link(&self) -> &Link {
        &self.link
    }
}

impl fmt::Debug for HttpConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HttpConnection")
            .field(&self.link.connection)
            .finish()
    }
}

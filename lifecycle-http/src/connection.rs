//! Serves one connection, from its accept to its last byte.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Poll, ready};
use std::time::Duration;

use http::{HeaderMap, Request, StatusCode};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
#[cfg(feature = "h2")]
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
#[cfg(feature = "h2")]
use hyper_util::rt::TokioTimer;
use lifecycle_runtime::{BoxError, CloseReason, Connection, Gate, Peer};
use tokio::time::Instant;
use tracing::debug;

use crate::accept::Serve;
use crate::activity::Activity;
use crate::app::{App, AppBody};
use crate::drive::{Drivable, End, Signal, Timer, drive};
use crate::exchange::answer;
use crate::listener::tune;
use crate::sniff::Sniffed;
use crate::socket::{SharedSocket, Socket};
use crate::upgrade::Upgrades;
use crate::{Handshake, Limits, NotUpgradable, Protocol, RawStream, Room};

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
    /// Its number in the server's room, if that has one.
    pub(crate) guest: Option<u64>,
    local: Option<SocketAddr>,
    upgrades: Upgrades,
}

impl Link {
    /// Runs the upgrade of the request that is answered now.
    pub(crate) fn run_upgrade(
        self: &Arc<Self>,
        upgrade: impl Future<Output = Result<(), BoxError>> + Send + 'static,
    ) -> Result<(), NotUpgradable> {
        if !self.activity.is_h2() {
            self.upgrades.follow(upgrade);
            return Ok(());
        }
        let link = Arc::clone(self);
        let held = self.upgrades.hold();
        let stream = async move {
            let _held = held;
            if let Err(error) = upgrade.await {
                link.upgrades.fail(error);
            }
        };
        self.connection.spawn(stream).map_err(|_| NotUpgradable)
    }
}

/// The parts that the connections of a server share.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) limits: Limits,
    /// The types of streams of lines that are ended.
    pub(crate) lines: Vec<String>,
    /// Whether streams are ended between two messages at all.
    pub(crate) ends_streams: bool,
    /// Whether requests whose length is ambiguous are the service's to answer.
    pub(crate) passes_ambiguous: bool,
    /// Whether h2 clients may ask for other protocols.
    #[cfg_attr(not(feature = "h2"), allow(dead_code, reason = "only h2 has it"))]
    pub(crate) extended_connect: bool,
    /// The name of the service, where the stages of connections are shown.
    pub(crate) stages: Option<&'static str>,
    pub(crate) room: Option<Room>,
    pub(crate) exchanges: Gate,
    /// How many were told to close for the drain.
    pub(crate) told: AtomicU64,
}

impl Common {
    /// Returns when the next one of many that were told to close may do so.
    pub(crate) fn turn(&self) -> Duration {
        let turn = self.told.fetch_add(1, Ordering::Relaxed);
        self.limits
            .spread
            .saturating_mul(u32::try_from(turn).unwrap_or(u32::MAX))
    }
}

/// Closes the socket with the task that serves it, even if the stream has been handed on by then.
struct CutOnDrop(Arc<Activity>);

impl Drop for CutOnDrop {
    fn drop(&mut self) {
        self.0.wire.cut();
    }
}

/// Serves HTTP: a handshake, then a service.
pub(crate) struct Http<H, S, B> {
    pub(crate) handshake: H,
    pub(crate) service: S,
    pub(crate) common: Arc<Common>,
    pub(crate) body: PhantomData<fn() -> B>,
}

impl<H: Clone, S: Clone, B> Clone for Http<H, S, B> {
    fn clone(&self) -> Self {
        Self {
            handshake: self.handshake.clone(),
            service: self.service.clone(),
            common: Arc::clone(&self.common),
            body: PhantomData,
        }
    }
}

impl<H: Handshake, S: App<B>, B: AppBody> Serve for Http<H, S, B> {
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
            let served = serve(
                stream,
                connection.clone(),
                handshake,
                service,
                common,
                number,
            );
            let mut served = pin!(served);
            poll_fn(|cx| {
                if leaves.as_mut().poll(cx).is_ready() {
                    // Cut, as it is dropped now: it may be one that would not listen.
                    connection.close(CloseReason::Idle);
                    return Poll::Ready(Ok(()));
                }
                served.as_mut().poll(cx)
            })
            .await
        }
    }
}

/// Serves a connection until it ends, its upgrade included.
async fn serve<H, S, B>(
    raw: RawStream,
    connection: Connection,
    handshake: H,
    service: S,
    common: Arc<Common>,
    guest: Option<u64>,
) -> Result<(), BoxError>
where
    H: Handshake,
    S: App<B>,
    B: AppBody,
{
    let local = raw.local_addr();
    let activity = Arc::new(Activity::new(SharedSocket::new(raw)));
    let _cut = CutOnDrop(Arc::clone(&activity));
    let told = Arc::clone(&activity);
    let stages = common.stages;
    connection.set_description(move || match stages {
        Some(service) => told.doing(service),
        None => told.names(),
    });
    let limits = common.limits;
    let link = Arc::new(Link {
        connection: connection.clone(),
        activity: Arc::clone(&activity),
        common: Arc::clone(&common),
        guest,
        local,
        upgrades: Upgrades::default(),
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
        let link = HttpConnection {
            link: Arc::clone(&link),
        };
        service_fn(move |request: Request<Incoming>| answer(service.clone(), request, link.clone()))
    };
    let io = TokioIo::new(stream);
    let end = match protocol {
        #[cfg(feature = "h2")]
        Protocol::Http2 => {
            connection.set_protocol("h2");
            activity.speaks_h2();
            drive(
                http2(&common, &connection).serve_connection(io, answers),
                &activity,
                &limits,
                signal,
                turn,
            )
            .await
        }
        _ => {
            connection.set_protocol("h1");
            let http = http1(&limits).serve_connection(io, answers).with_upgrades();
            drive(http, &activity, &limits, signal, turn).await
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
        // The service's own error ended it, which is not the client's doing.
        End::Broken(error) if error.is_user() => return Err(error.into()),
        End::Broken(error) => debug!(%connection, %error, "a connection broke"),
    }
    Ok(())
}

fn http1(limits: &Limits) -> http1::Builder {
    let mut http = http1::Builder::new();
    // hyper's limit for heads would also end connections between requests, where another limit holds.
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
        // The windows of all streams fit, so a stream whose service does not read holds up no other.
        .initial_connection_window_size(limits.connection_window());
    if common.extended_connect {
        http.enable_connect_protocol();
    }
    http
}

/// Runs the streams of an h2 connection as parts of it: drained with it, and gone when it is.
#[cfg(feature = "h2")]
#[derive(Clone, Debug)]
struct Parts(Connection);

#[cfg(feature = "h2")]
impl<F: Future<Output: Send> + Send + 'static> hyper::rt::Executor<F> for Parts {
    fn execute(&self, task: F) {
        // Boxed: what goes around it would otherwise hold it several times over.
        let task = Box::pin(task);
        // Refused when the connection is gone, and so is the client that waits for the task.
        let _ = self.0.spawn(async { drop(task.await) });
    }
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

/// Waits for `opening`, within the limit for a client to begin; while the connection should close, only if it has begun.
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

    /// Creates a connection of no server, for testing services: put it into a request's extensions.
    pub fn detached(peer: impl Into<Peer>) -> Self {
        let common = Common {
            limits: Limits::default(),
            lines: Vec::new(),
            ends_streams: true,
            passes_ambiguous: false,
            extended_connect: true,
            stages: None,
            room: None,
            exchanges: Gate::new(),
            told: AtomicU64::new(0),
        };
        Self {
            link: Arc::new(Link {
                connection: Connection::detached(peer),
                activity: Arc::new(Activity::new(SharedSocket::default())),
                common: Arc::new(common),
                guest: None,
                local: None,
                upgrades: Upgrades::default(),
            }),
        }
    }

    /// Returns the address that the client connected to; `None` for a unix socket.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.link.local
    }

    /// Returns when the last byte passed, in either direction: over HTTP/1.1, while a request is answered, that of its
    /// body. Measured in milliseconds.
    pub fn last_byte(&self) -> Instant {
        self.link.activity.last_byte()
    }

    /// Sends an interim response (1xx) before the final one to the request that is answered now (RFC 9110 §15.2).
    ///
    /// Returns whether it is on its way. It is dropped, as any may be, over HTTP/2 (hyper cannot send it), once the final
    /// response has begun, and when 16 KiB of them wait for the client already. A 100 is sent by the server itself, when
    /// a body is asked for, and a 101 is a final response here. A client that speaks HTTP/1.0 must be sent none: ask
    /// [`Request::version`].
    ///
    /// ```
    /// use http::{HeaderMap, HeaderValue, StatusCode, header::LINK};
    /// use lifecycle_http::HttpConnection;
    ///
    /// fn early_hints(connection: &HttpConnection) -> bool {
    ///     let link = HeaderValue::from_static("</style.css>; rel=preload");
    ///     let fields = HeaderMap::from_iter([(LINK, link)]);
    ///     connection.send_interim(StatusCode::EARLY_HINTS, &fields)
    /// }
    /// # assert!(!early_hints(&HttpConnection::detached("nobody")));
    /// ```
    pub fn send_interim(&self, status: StatusCode, fields: &HeaderMap) -> bool {
        let is_interim = status.is_informational()
            && ![StatusCode::CONTINUE, StatusCode::SWITCHING_PROTOCOLS].contains(&status);
        let activity = &self.link.activity;
        is_interim && activity.takes_interim() && activity.interim.push(status, fields)
    }

    pub(crate) fn link(&self) -> &Arc<Link> {
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

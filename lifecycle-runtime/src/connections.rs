//! Connections: a limit, idle expiry, a closing signal for each, and a drain that names who is left.

mod connection;
mod sweep;

use std::fmt;
use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::gate::Pass;
use crate::tracked::{self, Keeper, Place, Tracked};
use crate::{BoxError, Component, Context, MustClean, TaskOutcome, log};

pub use connection::{Busy, CloseReason, Connection, Peer};

/// Connections, each served by a task of its own.
///
/// The permit of a connection lives exactly as long as its task: also when that panics or is aborted. An
/// idle one is told to close, and cut if it does not; one timer watches all of them.
///
/// Its shutdown refuses new connections, tells all that there are (see [`Connection::cancelled`]), waits, and at
/// the soft deadline aborts those that are left and awaits them too; they are named in the report. Dropping
/// it aborts them: none is detached.
///
/// Whoever accepts holds an [`Acceptor`], which keeps nothing alive.
///
/// ```
/// use lifecycle_runtime::{BoxError, Component, Connections, Context, Reason};
/// use std::{num::NonZeroUsize, time::Duration};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// use tokio::net::{TcpListener, TcpStream};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let limit = NonZeroUsize::new(1_000).expect("not zero");
/// let mut connections = Connections::with_idle_timeout(limit, Duration::from_secs(60));
///
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// let mut client = TcpStream::connect(listener.local_addr()?).await?;
/// let (mut socket, peer) = listener.accept().await?;
/// connections.spawn(peer, async move |connection| {
///     let mut byte = [0];
///     // Pinned once: one that is made anew in every round registers anew.
///     let mut closing = std::pin::pin!(connection.cancelled());
///     loop {
///         tokio::select! {
///             read = socket.read_exact(&mut byte) => read?,
///             _ = &mut closing => return Ok::<_, BoxError>(()),
///         };
///         connection.touch();
///         socket.write_all(&byte).await?;
///     }
/// })?;
///
/// client.write_all(b"!").await?;
/// client.read_exact(&mut [0]).await?;
/// assert_eq!(connections.stats().active, 1);
///
/// connections.cleanup(&Context::new(Reason::Requested, Duration::from_secs(5))).await
/// # }
/// ```
#[doc(alias("drain", "graceful"))]
pub struct Connections {
    acceptor: Acceptor,
}

/// Spawns into [`Connections`]. Clones are cheap, and keep neither those nor their tasks alive.
#[derive(Clone)]
pub struct Acceptor {
    shared: Arc<Shared>,
}

/// A place for a connection that is not served yet; given back if it is dropped.
#[must_use = "one that is dropped gives its place back"]
pub struct Admission {
    connection: Connection,
    place: Place<Shared>,
}

struct Shared {
    tracked: Tracked<Connection>,
    limit: usize,
    idle: Option<Duration>,
    /// Whether the task that watches idle connections was started.
    sweeping: AtomicBool,
    /// Places that are taken: what the limit is about.
    active: AtomicUsize,
    peak: AtomicUsize,
    accepted: AtomicU64,
    rejected: AtomicU64,
    expired: AtomicU64,
    failed: AtomicU64,
    forced: AtomicU64,
}

/// Numbers about connections. Each is exact; together they are a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionStats {
    /// Served now.
    pub active: usize,
    /// Served at the same time, at most.
    pub peak: usize,
    /// Ever served.
    pub accepted: u64,
    /// Refused at the limit.
    pub rejected: u64,
    /// Closed for being idle.
    pub expired: u64,
    /// Ended with an error or a panic.
    pub failed: u64,
    /// Aborted: at the deadline of the shutdown, or for staying after they were told to close as idle.
    pub forced: u64,
}

/// A connection was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// As many are open as may be.
    Full {
        /// How many may be.
        limit: usize,
    },
    /// The shutdown has begun.
    Closed,
}

impl Connections {
    /// At most `limit` connections; idle ones stay.
    pub fn new(limit: NonZeroUsize) -> Self {
        Self::with(limit, None)
    }

    /// At most `limit` connections; one that is not [touched](Connection::touch) for `idle` is told to
    /// close, and aborted if it stays for as long again. Measured to a sixteenth of it.
    pub fn with_idle_timeout(limit: NonZeroUsize, idle: Duration) -> Self {
        Self::with(limit, Some(idle))
    }

    fn with(limit: NonZeroUsize, idle: Option<Duration>) -> Self {
        let shared = Shared {
            tracked: Tracked::default(),
            limit: limit.get(),
            idle,
            sweeping: AtomicBool::new(false),
            active: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            accepted: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            expired: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            forced: AtomicU64::new(0),
        };
        Self {
            acceptor: Acceptor {
                shared: Arc::new(shared),
            },
        }
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.acceptor.shared
    }

    /// Spawns into these from elsewhere.
    pub fn acceptor(&self) -> Acceptor {
        self.acceptor.clone()
    }

    /// Refuses new connections and tells those there are to close. Waits for nobody.
    pub fn close(&self) {
        self.shared().tracked.gate.close();
    }

    /// Waits until they are closed and every connection has ended. Does not close them: call
    /// [`close`](Self::close).
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is lost if it is dropped.
    pub async fn drained(&self) {
        self.shared().tracked.gate.drained().await;
    }
}

/// What connections and their acceptors do alike.
impl Connections {
    /// Serves a connection on a task of its own.
    ///
    /// # Errors
    ///
    /// [`Refused`] at the limit, or once the shutdown has begun; `serve` is not called then.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn spawn<F>(
        &self,
        peer: impl Into<Peer>,
        serve: impl FnOnce(Connection) -> F,
    ) -> Result<(), Refused>
    where
        F: Future<Output: TaskOutcome> + Send + 'static,
    {
        self.acceptor.spawn(peer, serve)
    }

    /// Reserves a slot for a connection that is not served yet; see [`Acceptor::admit`].
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn).
    pub fn admit(&self, peer: impl Into<Peer>) -> Result<Admission, Refused> {
        self.acceptor.admit(peer)
    }

    /// Returns the counts of connections so far.
    pub fn stats(&self) -> ConnectionStats {
        self.acceptor.stats()
    }

    /// Lists the open connections, the oldest first.
    pub fn list(&self) -> impl Iterator<Item = Connection> + use<> {
        self.acceptor.list()
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        self.shared().cut();
    }
}

impl Acceptor {
    /// Serves a connection on a task of its own.
    ///
    /// # Errors
    ///
    /// [`Refused`] at the limit, or once the shutdown has begun; `serve` is not called then.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn spawn<F>(
        &self,
        peer: impl Into<Peer>,
        serve: impl FnOnce(Connection) -> F,
    ) -> Result<(), Refused>
    where
        F: Future<Output: TaskOutcome> + Send + 'static,
    {
        self.admit(peer)?.spawn(serve);
        Ok(())
    }

    /// Takes a place for a connection, before its socket is given to whoever serves it: one that is refused can still be
    /// told so.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn).
    pub fn admit(&self, peer: impl Into<Peer>) -> Result<Admission, Refused> {
        let shared = &self.shared;
        if shared.tracked.gate.is_closed() {
            return Err(Refused::Closed);
        }
        shared.take_place()?;
        let connection = Connection::new(peer.into(), shared.tracked.gate.clone());
        match Place::enter(shared, connection.clone()) {
            Ok(place) => Ok(Admission { connection, place }),
            Err(_) => {
                shared.give_back();
                Err(Refused::Closed)
            }
        }
    }

    /// The numbers up to now.
    pub fn stats(&self) -> ConnectionStats {
        let shared = &self.shared;
        let number = |of: &AtomicU64| of.load(Ordering::Relaxed);
        ConnectionStats {
            active: shared.active.load(Ordering::Relaxed),
            peak: shared.peak.load(Ordering::Relaxed),
            accepted: number(&shared.accepted),
            rejected: number(&shared.rejected),
            expired: number(&shared.expired),
            failed: number(&shared.failed),
            forced: number(&shared.forced),
        }
    }

    /// Every connection there is, the oldest first.
    pub fn list(&self) -> impl Iterator<Item = Connection> + use<> {
        let all = self.shared.tracked.all();
        all.into_iter().map(|(_, connection)| connection)
    }
}

impl Admission {
    /// Serves the connection on a task of its own.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn spawn<F>(self, serve: impl FnOnce(Connection) -> F)
    where
        F: Future<Output: TaskOutcome> + Send + 'static,
    {
        let shared = Arc::clone(self.place.keeper());
        self.place.spawn(&shared, serve(self.connection));
        shared.accepted.fetch_add(1, Ordering::Relaxed);
        if let Some(idle) = shared.idle {
            sweep::watch(&shared, idle);
        }
    }

    /// The connection that will be.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }
}

impl Keeper for Shared {
    type Task = Connection;
    const NOUN: &'static str = "connection";

    fn tracked(&self) -> &Tracked<Connection> {
        &self.tracked
    }

    fn admitted(&self, connection: &Connection, pass: &Pass) {
        connection.admitted(pass);
    }

    fn failed(&self, connection: &Connection, error: BoxError) {
        connection.close(CloseReason::Error);
        self.failed.fetch_add(1, Ordering::Relaxed);
        // The error, what the connection tells and a subscriber are somebody's code.
        log::connection_failed(connection, &*error);
    }

    fn gone(&self, connection: &Connection) {
        connection.left();
        self.give_back();
        let count = match connection.close_reason() {
            Some(CloseReason::Idle) => &self.expired,
            Some(CloseReason::Forced) => &self.forced,
            _ => return,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    fn cut(&self) {
        for (_, connection) in self.tracked.all() {
            connection.force();
        }
        self.tracked.abort();
    }
}

impl Shared {
    /// Takes a place below the limit.
    fn take_place(&self) -> Result<(), Refused> {
        let limit = self.limit;
        let below = |active| (active < limit).then_some(active + 1);
        // Relaxed: the count itself is all there is to agree on.
        match self
            .active
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, below)
        {
            Ok(before) => {
                self.peak.fetch_max(before + 1, Ordering::Relaxed);
                Ok(())
            }
            Err(_) => {
                self.rejected.fetch_add(1, Ordering::Relaxed);
                Err(Refused::Full { limit })
            }
        }
    }

    fn give_back(&self) {
        self.active.fetch_sub(1, Ordering::Relaxed);
    }
}

impl MustClean for Connections {}
impl MustClean for &Connections {}

impl Component for &Connections {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        match tracked::drain(self.shared(), cx).await {
            None => Ok(()),
            Some(names) => Err(format!("cut at the deadline: {names}").into()),
        }
    }

    fn abort(&mut self) {
        self.shared().cut();
    }
}

impl Component for Connections {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        Component::cleanup(&mut &*self, cx).await
    }

    fn abort(&mut self) {
        self.shared().cut();
    }

    fn release(&mut self) {
        self.shared().cut();
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Admission").field(&self.connection).finish()
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { limit } => write!(f, "all {limit} connections are taken"),
            Self::Closed => f.write_str("the server is shutting down"),
        }
    }
}

impl std::error::Error for Refused {}

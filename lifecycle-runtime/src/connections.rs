//! The set of a server's connections. It has a limit and an idle timeout, can tell each connection to close, and names
//! in the report those that stayed open for too long.

mod connection;
mod sweep;

use std::fmt;
use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::gate::Pass;
use crate::tracked::{self, TaskGuard, TaskOwner, Tracked};
use crate::{BoxError, Component, Context, MustClean, TaskOutcome, log};

pub use connection::{Busy, CloseReason, Connection, Peer};

/// A set of connections, each served by a task of its own, with a limit and an idle timeout.
///
/// A connection counts against the limit exactly as long as its task lives, even if the task panics or is aborted. A
/// connection that was idle for too long is told to close, and aborted if it stays open. One timer watches all
/// connections.
///
/// The set's shutdown refuses new connections, tells the open ones to close (see [`Connection::cancelled`]), and waits.
/// At the soft deadline it aborts the connections that are still open, waits until their tasks have ended, and names
/// them in the report. Dropping the set aborts its connections, so no connection goes on without its set.
///
/// Code elsewhere that accepts connections holds an [`Acceptor`], which keeps neither the set nor its tasks alive.
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
///     // Pinned once, since a new future in each round would register again.
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

/// A handle that adds connections to a set of [`Connections`]. Clones are cheap, and keep neither the set nor its tasks
/// alive.
#[derive(Clone)]
pub struct Acceptor {
    shared: Arc<Shared>,
}

/// A slot that is reserved for a connection whose task is not spawned yet. Dropping the admission frees the slot.
#[must_use = "an admission that is dropped frees its slot"]
pub struct Admission {
    connection: Connection,
    guard: TaskGuard<Shared>,
}

struct Shared {
    tracked: Tracked<Connection>,
    limit: usize,
    idle: Option<Duration>,
    /// Whether the task that closes idle connections is running.
    sweeping: AtomicBool,
    /// The number of slots in use, which `limit` bounds.
    active: AtomicUsize,
    peak: AtomicUsize,
    accepted: AtomicU64,
    rejected: AtomicU64,
    expired: AtomicU64,
    failed: AtomicU64,
    forced: AtomicU64,
}

/// The counts of a set's connections. Each number is exact, but the numbers are read one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionStats {
    /// The number of slots in use now: connections that are being served, or are admitted and about to be.
    pub active: usize,
    /// The highest value that `active` has had.
    pub peak: usize,
    /// The number of connections whose tasks were spawned, since the set was created.
    pub accepted: u64,
    /// The number of connections that were refused because the limit was reached.
    pub rejected: u64,
    /// The number of connections that were told to close because they were idle, and ended.
    pub expired: u64,
    /// The number of connections whose tasks ended with an error or a panic.
    pub failed: u64,
    /// The number of connections that were aborted: at the deadline of the shutdown, or because they stayed open after
    /// they were told to close as idle.
    pub forced: u64,
}

/// An error: a connection was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// The set has as many connections as its limit allows.
    Full {
        /// The limit that was given to [`Connections::new`].
        limit: usize,
    },
    /// The set's shutdown has begun, so the set is closed.
    Closed,
}

impl Connections {
    /// Creates a set of at most `limit` connections. Idle connections stay open.
    pub fn new(limit: NonZeroUsize) -> Self {
        Self::with(limit, None)
    }

    /// Creates a set of at most `limit` connections, with an idle timeout. A connection that is not
    /// [touched](Connection::touch) for `idle` is told to close, and aborted if it stays open for as long again. The
    /// idle time is measured in steps of a sixteenth of `idle`.
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

    /// Returns a handle through which other code adds connections to this set.
    pub fn acceptor(&self) -> Acceptor {
        self.acceptor.clone()
    }

    /// Refuses new connections and tells the open ones to close. Does not wait until they have closed: see
    /// [`drained`](Self::drained).
    pub fn close(&self) {
        self.shared().tracked.gate.close();
    }

    /// Waits until the set is closed and every connection has ended. Does not close the set: call
    /// [`close`](Self::close).
    ///
    /// # Cancel safety
    ///
    /// Safe: dropping the future loses nothing.
    pub async fn drained(&self) {
        self.shared().tracked.gate.drained().await;
    }
}

/// The methods of a set that its acceptors have as well.
impl Connections {
    /// Admits a connection, and spawns the task that serves it: the future that `serve` returns.
    ///
    /// # Errors
    ///
    /// [`Refused`] if the limit is reached or the set's shutdown has begun; `serve` is not called then.
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

    /// Reserves a slot for a connection whose task is not spawned yet; see [`Acceptor::admit`].
    ///
    /// # Errors
    ///
    /// The same errors as [`spawn`](Self::spawn).
    pub fn admit(&self, peer: impl Into<Peer>) -> Result<Admission, Refused> {
        self.acceptor.admit(peer)
    }

    /// Returns how many connections the set has, has had and has refused.
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
        self.shared().abort_all();
    }
}

impl Acceptor {
    /// Admits a connection, and spawns the task that serves it: the future that `serve` returns.
    ///
    /// # Errors
    ///
    /// [`Refused`] if the limit is reached or the set's shutdown has begun; `serve` is not called then.
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

    /// Reserves a slot for a connection whose task is not spawned yet. The caller still has the socket, so it can
    /// answer a client that it refuses.
    ///
    /// # Errors
    ///
    /// The same errors as [`spawn`](Self::spawn).
    pub fn admit(&self, peer: impl Into<Peer>) -> Result<Admission, Refused> {
        let shared = &self.shared;
        if shared.tracked.gate.is_closed() {
            return Err(Refused::Closed);
        }
        shared.reserve_slot()?;
        let connection = Connection::new(peer.into(), shared.tracked.gate.clone());
        match TaskGuard::enter(shared, connection.clone()) {
            Ok(guard) => Ok(Admission { connection, guard }),
            Err(_) => {
                shared.free_slot();
                Err(Refused::Closed)
            }
        }
    }

    /// Returns how many connections the set has, has had and has refused.
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

    /// Lists the open connections, the oldest first.
    pub fn list(&self) -> impl Iterator<Item = Connection> + use<> {
        let all = self.shared.tracked.all();
        all.into_iter().map(|(_, connection)| connection)
    }
}

impl Admission {
    /// Spawns the task that serves the connection: the future that `serve` returns.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn spawn<F>(self, serve: impl FnOnce(Connection) -> F)
    where
        F: Future<Output: TaskOutcome> + Send + 'static,
    {
        let shared = Arc::clone(self.guard.owner());
        self.guard.spawn(&shared, serve(self.connection));
        shared.accepted.fetch_add(1, Ordering::Relaxed);
        if let Some(idle) = shared.idle {
            sweep::watch(&shared, idle);
        }
    }

    /// Returns the connection for which this slot is reserved.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }
}

impl TaskOwner for Shared {
    type Task = Connection;
    const NOUN: &'static str = "connection";

    fn tracked(&self) -> &Tracked<Connection> {
        &self.tracked
    }

    fn on_admitted(&self, connection: &Connection, pass: &Pass) {
        connection.admitted(pass);
    }

    fn on_failed(&self, connection: &Connection, error: BoxError) {
        connection.close(CloseReason::Error);
        self.failed.fetch_add(1, Ordering::Relaxed);
        // This call runs foreign code: the error's `Display`, the connection's description and the log's subscriber.
        log::connection_failed(connection, &*error);
    }

    fn on_ended(&self, connection: &Connection) {
        connection.left();
        self.free_slot();
        let count = match connection.close_reason() {
            Some(CloseReason::Idle) => &self.expired,
            Some(CloseReason::Forced) => &self.forced,
            _ => return,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    fn abort_all(&self) {
        for (_, connection) in self.tracked.all() {
            connection.force();
        }
        self.tracked.abort();
    }
}

impl Shared {
    /// Counts one more slot as used, if the limit allows one more.
    fn reserve_slot(&self) -> Result<(), Refused> {
        let limit = self.limit;
        let below = |active| (active < limit).then_some(active + 1);
        // Relaxed is enough: nothing but this count depends on its order.
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

    fn free_slot(&self) {
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
        self.shared().abort_all();
    }
}

impl Component for Connections {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        Component::cleanup(&mut &*self, cx).await
    }

    fn abort(&mut self) {
        self.shared().abort_all();
    }

    fn release(&mut self) {
        self.shared().abort_all();
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

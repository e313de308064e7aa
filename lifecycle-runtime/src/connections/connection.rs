//! A single connection: its peer and counters, and the signal that tells it to close.

use std::borrow::Cow;
use std::fmt;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::gate::{Closed, Gate, Pass};

/// A handle to one connection of [`Connections`](super::Connections), for the task that serves it and for dashboards.
/// Clones are cheap and refer to the same connection.
#[derive(Clone)]
pub struct Connection {
    state: Arc<State>,
}

/// The fields that every request uses come first and in this order, so that they share one or two cache lines.
#[repr(C)]
struct State {
    received: AtomicU64,
    sent: AtomicU64,
    /// The number of [`Busy`] guards of this connection.
    busy: AtomicUsize,
    gate: Gate,
    /// Whether the connection was touched since the set last checked for idle connections.
    active: AtomicBool,
    /// The [`CloseReason`] as a number, or 0 as long as the connection was not told to close.
    reason: AtomicU8,
    /// The milliseconds from `since` to the last idle check that found the connection active.
    active_at: AtomicU64,
    peer: Peer,
    since: Instant,
    protocol: OnceLock<&'static str>,
    /// The description of the connection's activity, from [`Connection::set_description`].
    about: OnceLock<Box<dyn Fn() -> String + Send + Sync>>,
    told: Notify,
    /// The pass that admits tasks that are parts of this connection. `None` before the connection's own task is
    /// admitted, and after that task is gone.
    parts: Mutex<Option<Parts>>,
}

struct Parts {
    pass: Pass,
    /// The token that is cancelled when the connection's own task is gone. `None` until the first part is spawned.
    cut: Option<CancellationToken>,
}

/// A guard that keeps a [`Connection`] from being idle until it is dropped.
#[derive(Debug)]
#[must_use = "a guard that is dropped at once keeps nothing busy"]
pub struct Busy {
    connection: Connection,
}

impl Drop for Busy {
    fn drop(&mut self) {
        // The connection's idle time begins when the guard is dropped, hence the touch.
        self.connection.touch();
        self.connection.state.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The other end of a connection, by address or by name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Peer {
    /// A network address.
    Addr(SocketAddr),
    /// A name, for sockets without addresses.
    Named(Cow<'static, str>),
}

/// The reason why a connection was told to close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[repr(u8)]
pub enum CloseReason {
    /// The server is shutting down.
    Drain = 1,
    /// The connection was idle for too long.
    Idle = 2,
    /// The connection's task ended with an error.
    Error = 3,
    /// The connection stayed open for too long after it was told to close, and is aborted.
    Forced = 4,
}

impl Connection {
    pub(super) fn new(peer: Peer, gate: Gate) -> Self {
        Self {
            state: Arc::new(State {
                received: AtomicU64::new(0),
                sent: AtomicU64::new(0),
                busy: AtomicUsize::new(0),
                gate,
                active: AtomicBool::new(false),
                reason: AtomicU8::new(0),
                active_at: AtomicU64::new(0),
                peer,
                since: Instant::now(),
                protocol: OnceLock::new(),
                about: OnceLock::new(),
                told: Notify::new(),
                parts: Mutex::default(),
            }),
        }
    }

    /// Creates a connection outside any [`Connections`](super::Connections), for testing handlers.
    pub fn detached(peer: impl Into<Peer>) -> Self {
        let gate = Gate::new();
        let pass = gate.enter();
        let connection = Self::new(peer.into(), gate);
        if let Ok(pass) = &pass {
            connection.admitted(pass);
        }
        connection
    }

    /// Admits parts of the connection from now on, because the connection's own task is about to be spawned.
    pub(super) fn admitted(&self, pass: &Pass) {
        let pass = pass.clone();
        *self.parts() = Some(Parts { pass, cut: None });
    }

    /// Refuses new parts of the connection and cancels the existing ones, because the connection's own task is gone.
    pub(super) fn left(&self) {
        let parts = self.parts().take();
        // The token is cancelled after the lock is released, since cancelling wakes tasks.
        if let Some(cut) = parts.and_then(|parts| parts.cut) {
            cut.cancel();
        }
    }

    fn parts(&self) -> MutexGuard<'_, Option<Parts>> {
        self.state
            .parts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Spawns a task that is a part of this connection, such as an HTTP/2 stream. Parts may be spawned even after the
    /// connection was told to close.
    ///
    /// The shutdown waits for the part as well. The part is dropped once the connection's own task is gone, however
    /// that task ended. A panic of the part ends neither the connection nor its other parts.
    ///
    /// # Errors
    ///
    /// [`Closed`] if the connection's own task is gone; `task` is dropped then.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> Result<(), Closed> {
        let part = {
            let mut parts = self.parts();
            let Parts { pass, cut } = parts.as_mut().ok_or(Closed)?;
            let cut = cut.get_or_insert_default().clone();
            // A tuple drops its fields in this order, even if the spawned future is never polled: first the task, then
            // the pass. So the gate is drained only after the task is dropped.
            (cut.run_until_cancelled_owned(task), pass.clone())
        };
        tokio::spawn(async move {
            let (task, _pass) = part;
            task.await;
        });
        Ok(())
    }

    /// Waits until the connection is told to close, and returns why. The connection's task should then end at the next
    /// point where no data is lost.
    ///
    /// # Cancel safety
    ///
    /// Safe: dropping the future loses nothing.
    pub async fn cancelled(&self) -> CloseReason {
        // The future is created before the reason is checked, so that it misses no notification in between.
        let mut told = pin!(self.state.told.notified());
        let mut drain = pin!(self.state.gate.closed());
        let mut waits: Option<Waker> = None;
        poll_fn(|cx| {
            // `close` sets the reason before it wakes. As long as there is no reason and both futures would wake this
            // task, polling the two futures again is not needed. Each poll takes a lock, and all connections share the
            // lock of `drain`.
            if let Some(reason) = self.close_reason() {
                return Poll::Ready(reason);
            }
            if waits.as_ref().is_some_and(|it| it.will_wake(cx.waker())) {
                return Poll::Pending;
            }
            // The operator is `&` and not `&&`, since both futures must be polled to register the waker.
            if told.as_mut().poll(cx).is_pending() & drain.as_mut().poll(cx).is_pending() {
                waits = Some(cx.waker().clone());
                return self.close_reason().map_or(Poll::Pending, Poll::Ready);
            }
            Poll::Ready(self.close_reason().unwrap_or(CloseReason::Drain))
        })
        .await
    }

    /// Returns whether the connection has been told to close.
    pub fn is_cancelled(&self) -> bool {
        self.close_reason().is_some()
    }

    /// Returns why the connection was told to close. `None` as long as the connection was not told to.
    pub fn close_reason(&self) -> Option<CloseReason> {
        match self.state.reason.load(Ordering::Acquire) {
            1 => Some(CloseReason::Drain),
            2 => Some(CloseReason::Idle),
            3 => Some(CloseReason::Error),
            4 => Some(CloseReason::Forced),
            _ if self.state.gate.is_closed() => Some(CloseReason::Drain),
            _ => None,
        }
    }

    /// Signals the connection to close. If it was told before, the first reason stays.
    pub fn close(&self, reason: CloseReason) {
        let reason = reason as u8;
        // This store has Release order: once a task has read the reason, it sees what happened before this call.
        let told =
            self.state
                .reason
                .compare_exchange(0, reason, Ordering::Release, Ordering::Relaxed);
        if told.is_ok() {
            self.state.told.notify_waiters();
        }
    }

    /// Records that the connection is aborted, and replaces any reason it had before.
    pub(super) fn force(&self) {
        self.state
            .reason
            .store(CloseReason::Forced as u8, Ordering::Release);
    }

    /// Marks the connection as active, so that its idle time begins anew. Costs one relaxed store.
    pub fn touch(&self) {
        // Relaxed is enough: an idle check that misses this store sees it at the next check.
        self.state.active.store(true, Ordering::Relaxed);
    }

    /// Adds `bytes` to the number of bytes received, and marks the connection as active.
    pub fn received(&self, bytes: u64) {
        self.state.received.fetch_add(bytes, Ordering::Relaxed);
        self.touch();
    }

    /// Adds `bytes` to the number of bytes sent, and marks the connection as active.
    pub fn sent(&self, bytes: u64) {
        self.state.sent.fetch_add(bytes, Ordering::Relaxed);
        self.touch();
    }

    /// Sets the name of the protocol that the connection displays, such as `h2`. Only the first call has an effect.
    pub fn set_protocol(&self, protocol: &'static str) {
        let _ = self.state.protocol.set(protocol);
    }

    /// Adds to the numbers of bytes received and sent without marking the connection as active, for keep-alive traffic.
    pub fn add_bytes(&self, received: u64, sent: u64) {
        self.state.received.fetch_add(received, Ordering::Relaxed);
        self.state.sent.fetch_add(sent, Ordering::Relaxed);
    }

    /// Keeps the connection active until the returned guard, and every other such guard, is dropped.
    pub fn busy(&self) -> Busy {
        // Relaxed is enough for the same reason as in `touch`: the next idle check sees the new count.
        self.state.busy.fetch_add(1, Ordering::Relaxed);
        Busy {
            connection: self.clone(),
        }
    }

    /// Sets the description of the connection's activity, such as `GET /slow`. The description is displayed beside the
    /// peer and the protocol. Only the first call has an effect.
    ///
    /// Other threads call the closure, so it should read shared state and return quickly.
    pub fn set_description(&self, about: impl Fn() -> String + Send + Sync + 'static) {
        let _ = self.state.about.set(Box::new(about));
    }

    /// Returns the address or the name of the other end.
    pub fn peer(&self) -> &Peer {
        &self.state.peer
    }

    /// Returns the protocol, if [`set_protocol`](Self::set_protocol) was called.
    pub fn protocol(&self) -> Option<&'static str> {
        self.state.protocol.get().copied()
    }

    /// Returns what the connection is doing, by calling its [description](Self::set_description). `None` if no
    /// description was set, or if it is empty.
    pub fn about(&self) -> Option<String> {
        let about = self.state.about.get().map(|about| about());
        about.filter(|about| !about.is_empty())
    }

    /// Returns the time since the connection was admitted.
    pub fn age(&self) -> Duration {
        self.state.since.elapsed()
    }

    /// Returns how long the connection has been idle, in steps of a sixteenth of the idle timeout. The time is
    /// meaningful only in a set with an idle timeout, since nothing measures it otherwise.
    pub fn idle(&self) -> Duration {
        let at = Duration::from_millis(self.state.active_at.load(Ordering::Relaxed));
        if self.state.active.load(Ordering::Relaxed) || self.state.busy.load(Ordering::Relaxed) > 0
        {
            return Duration::ZERO;
        }
        self.age().saturating_sub(at)
    }

    /// Returns the numbers of bytes received and sent, as far as the connection's task has counted them.
    pub fn bytes(&self) -> (u64, u64) {
        let number = |of: &AtomicU64| of.load(Ordering::Relaxed);
        (number(&self.state.received), number(&self.state.sent))
    }

    /// Records whether the connection was active since the last idle check, and returns how long it has been idle.
    pub(super) fn record_sweep(&self) -> Duration {
        let age = self.age();
        let busy = self.state.busy.load(Ordering::Relaxed) > 0;
        if self.state.active.swap(false, Ordering::Relaxed) || busy {
            let at = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            self.state.active_at.store(at, Ordering::Relaxed);
            return Duration::ZERO;
        }
        age.saturating_sub(Duration::from_millis(
            self.state.active_at.load(Ordering::Relaxed),
        ))
    }
}

impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.protocol(), self.about()) {
            (Some(protocol), Some(about)) => write!(f, "{} ({protocol}, {about})", self.state.peer),
            (Some(word), None) => write!(f, "{} ({word})", self.state.peer),
            (None, Some(word)) => write!(f, "{} ({word})", self.state.peer),
            (None, None) => self.state.peer.fmt(f),
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("peer", &self.state.peer)
            .field("age", &self.age())
            .field("close_reason", &self.close_reason())
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addr(addr) => addr.fmt(f),
            Self::Named(name) => f.write_str(name),
        }
    }
}

impl From<SocketAddr> for Peer {
    fn from(addr: SocketAddr) -> Self {
        Self::Addr(addr)
    }
}

impl From<&'static str> for Peer {
    fn from(name: &'static str) -> Self {
        Self::Named(name.into())
    }
}

impl From<String> for Peer {
    fn from(name: String) -> Self {
        Self::Named(name.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> Connection {
        Connection::new("peer".into(), Gate::new())
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_connection_is_not_idle() {
        let connection = connection();
        let (first, second) = (connection.busy(), connection.busy());
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(connection.record_sweep(), Duration::ZERO);
        drop(first);
        connection.record_sweep();
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(
            connection.record_sweep(),
            Duration::ZERO,
            "one of two is still held"
        );
        drop(second);
        assert_eq!(
            connection.record_sweep(),
            Duration::ZERO,
            "idle from here on"
        );
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(connection.record_sweep(), Duration::from_secs(60));
    }

    #[tokio::test(start_paused = true)]
    async fn add_bytes_does_not_keep_a_connection_from_being_idle() {
        let connection = connection();
        tokio::time::advance(Duration::from_secs(60)).await;
        connection.add_bytes(17, 17);
        assert_eq!(connection.bytes(), (17, 17));
        assert_eq!(connection.record_sweep(), Duration::from_secs(60));
    }

    #[tokio::test]
    async fn it_displays_its_peer_its_protocol_and_its_description() {
        let connection = connection();
        assert_eq!(connection.to_string(), "peer");
        assert_eq!(connection.about(), None);
        connection.set_description(|| "GET /".into());
        assert_eq!(connection.to_string(), "peer (GET /)");
        assert_eq!(connection.about().as_deref(), Some("GET /"));
        connection.set_protocol("h2");
        assert_eq!(connection.to_string(), "peer (h2, GET /)");
    }
}

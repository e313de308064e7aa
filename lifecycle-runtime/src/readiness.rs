//! Readiness: whether a load balancer should send the server work. Probes read it.

use std::borrow::Cow;
use std::fmt;

use tokio::sync::watch;

use crate::{BoxError, Component, Context, MustClean};

/// The readiness of a server for new work: starting, then ready (or for a while not ready), draining, stopped. Clones
/// are cheap and share one state.
///
/// A [`Runner`](crate::Runner) that has the readiness sets it to draining when a shutdown begins, before anything
/// stops, and to stopped when the plan has ended. A draining server is alive, but not ready.
///
/// ```
/// use lifecycle_runtime::{Readiness, ReadyState};
///
/// let readiness = Readiness::new();
/// assert!(!readiness.is_ready());
/// readiness.set_ready();
/// assert!(readiness.is_ready());
/// readiness.set_unready("the database is away");
/// assert_eq!(readiness.state().to_string(), "not ready: the database is away");
/// ```
#[derive(Clone)]
pub struct Readiness {
    state: watch::Sender<ReadyState>,
}

/// The states of [`Readiness`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadyState {
    /// The server is not ready yet.
    Starting,
    /// The server takes work.
    Ready,
    /// The server takes no work for now. The text is the reason.
    Unready(Cow<'static, str>),
    /// The server takes no more work: its shutdown has begun.
    Draining,
    /// The shutdown has ended.
    Stopped,
}

impl Readiness {
    /// Creates a readiness in the state [`Starting`](ReadyState::Starting).
    pub fn new() -> Self {
        Self {
            state: watch::Sender::new(ReadyState::Starting),
        }
    }

    /// Sets the state to ready. Has no effect once the server drains.
    pub fn set_ready(&self) {
        self.set(ReadyState::Ready);
    }

    /// Sets the state to not ready, for the reason `why`. Has no effect once the server drains.
    pub fn set_unready(&self, why: impl Into<Cow<'static, str>>) {
        self.set(ReadyState::Unready(why.into()));
    }

    /// Returns whether the server takes work.
    pub fn is_ready(&self) -> bool {
        *self.state.borrow() == ReadyState::Ready
    }

    /// Returns the present state of the server.
    pub fn state(&self) -> ReadyState {
        self.state.borrow().clone()
    }

    /// Returns a receiver of the state: await its `changed()`, then read it with `borrow()`.
    pub fn watch(&self) -> watch::Receiver<ReadyState> {
        self.state.subscribe()
    }

    /// Waits until the state changes, and returns the new state.
    ///
    /// # Cancel safety
    ///
    /// Safe: dropping the future loses nothing. A change between two calls is missed; a receiver from
    /// [`watch`](Self::watch) misses none.
    pub async fn changed(&self) -> ReadyState {
        let mut watch = self.watch();
        // This cannot fail: `self` holds the sender, so the channel is open.
        let _ = watch.changed().await;
        watch.borrow().clone()
    }

    /// Sets the state to draining: the shutdown has begun.
    pub(crate) fn drain(&self) {
        self.set(ReadyState::Draining);
    }

    /// Sets the state to stopped: the shutdown has ended.
    pub(crate) fn stop(&self) {
        self.state.send_replace(ReadyState::Stopped);
    }

    fn set(&self, to: ReadyState) {
        self.state.send_if_modified(|state| {
            let over = matches!(state, ReadyState::Draining | ReadyState::Stopped);
            if over || *state == to {
                return false;
            }
            *state = to;
            true
        });
    }
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

impl MustClean for Readiness {}

/// The cleanup sets the state to draining. On a server without a runner, give the readiness the first place in the
/// plan.
impl Component for Readiness {
    async fn cleanup(&mut self, _cx: &Context) -> Result<(), BoxError> {
        self.drain();
        Ok(())
    }

    fn abort(&mut self) {
        self.drain();
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Readiness")
            .field(&*self.state.borrow())
            .finish()
    }
}

impl fmt::Display for ReadyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("starting"),
            Self::Ready => f.write_str("ready"),
            Self::Unready(why) => write!(f, "not ready: {why}"),
            Self::Draining => f.write_str("draining"),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

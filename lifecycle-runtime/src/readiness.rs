//! Whether the server should be sent work, for probes.

use std::borrow::Cow;
use std::fmt;

use tokio::sync::watch;

use crate::{BoxError, Component, Context, MustClean};

/// Whether the server should be sent work: starting, then ready (or not, for a while), draining, stopped.
/// Clones are cheap and the same.
///
/// A [`Runner`](crate::Runner) that is given it turns it to draining at the first moment of a shutdown, before
/// anything stops, and to stopped when the plan has ended. A server that drains is alive, but not ready.
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
    /// Not ready yet.
    Starting,
    /// Send work.
    Ready,
    /// Send none for now, for this reason.
    Unready(Cow<'static, str>),
    /// Send no more: the shutdown has begun.
    Draining,
    /// The shutdown has ended.
    Stopped,
}

impl Readiness {
    /// Starting.
    pub fn new() -> Self {
        Self {
            state: watch::Sender::new(ReadyState::Starting),
        }
    }

    /// Send work. Once it drains this changes nothing.
    pub fn set_ready(&self) {
        self.turn(ReadyState::Ready);
    }

    /// Send none for now. Once it drains this changes nothing.
    pub fn set_unready(&self, why: impl Into<Cow<'static, str>>) {
        self.turn(ReadyState::Unready(why.into()));
    }

    /// Whether work should be sent.
    pub fn is_ready(&self) -> bool {
        *self.state.borrow() == ReadyState::Ready
    }

    /// The state.
    pub fn state(&self) -> ReadyState {
        self.state.borrow().clone()
    }

    /// The state as it changes: `changed().await` on what this returns, then `borrow()`.
    pub fn watch(&self) -> watch::Receiver<ReadyState> {
        self.state.subscribe()
    }

    /// Waits until the state is another than now, and returns it.
    ///
    /// # Cancel safety
    ///
    /// Safe, but what changes between two calls is not told: [`watch`](Self::watch) misses nothing.
    pub async fn changed(&self) -> ReadyState {
        let mut watch = self.watch();
        // This holds the sender, so the channel is open.
        let _ = watch.changed().await;
        watch.borrow().clone()
    }

    /// The shutdown has begun.
    pub(crate) fn drain(&self) {
        self.turn(ReadyState::Draining);
    }

    /// The shutdown has ended.
    pub(crate) fn stop(&self) {
        self.state.send_replace(ReadyState::Stopped);
    }

    fn turn(&self, to: ReadyState) {
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

/// As a component it turns to draining: for a server without a runner, before everything else.
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

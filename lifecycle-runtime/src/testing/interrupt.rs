//! A handle with which a test interrupts a running shutdown, as a runner does at signals.

use std::fmt;
use std::sync::Arc;

use crate::engine::ShutdownShared;
use crate::{Force, ShutdownState, Signal};

/// A handle that interrupts a running shutdown, as a second and a third signal do.
///
/// ```
/// use lifecycle_runtime::testing::Interrupt;
/// use lifecycle_runtime::{GracefulShutdown, Outcome, ShutdownState, TaskGroup};
/// use std::time::Duration;
///
/// #[derive(GracefulShutdown)]
/// #[shutdown(strict)]
/// struct Server {
///     #[shutdown]
///     tasks: TaskGroup,
///     #[shutdown(state)]
///     state: ShutdownState,
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), lifecycle_runtime::Closed> {
/// let mut server = Server { tasks: TaskGroup::new(), state: ShutdownState::new() };
/// server.tasks.spawn("endless", std::future::pending::<()>())?;
/// let begun = tokio::time::timeout(Duration::from_millis(1), server.shutdown());
/// assert!(begun.await.is_err(), "dropped half-way");
/// Interrupt::of(&server.state).unwrap().force();
/// let report = server.shutdown().await;
/// assert!(matches!(report.step("tasks").unwrap().outcome(), Outcome::Aborted));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Interrupt {
    shared: Arc<ShutdownShared>,
}

impl Interrupt {
    /// Returns the handle for the owner with this state. `None` before the owner's shutdown has begun.
    pub fn of(state: &ShutdownState) -> Option<Self> {
        let shared = Arc::clone(&state.running()?.shared);
        Some(Self { shared })
    }

    /// Cuts the `best_effort` steps. All other steps run with their own time limits.
    pub fn hurry(&self) {
        self.shared.hurry();
    }

    /// Cuts every step, like a forced end by SIGTERM. Steps that have not begun are polled once.
    pub fn force(&self) {
        self.shared.force(Force::Signal(Signal::TERMINATE));
    }
}

impl fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interrupt").finish_non_exhaustive()
    }
}

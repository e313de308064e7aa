//! The error of a failed start, together with the server that the start had built so far.

use std::error::Error;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use crate::BoxError;

/// The error of a start that failed half-way, together with the server that it had built so far. A
/// [`Runner`](crate::Runner) cleans that server in plan order.
///
/// This error is meant for a server whose fields are `Option`s while it is being built. A start that fails before there
/// is a server does not need this error: each value's own drop releases what it owns.
///
/// ```
/// use lifecycle_runtime::{BoxError, FailedStart, GracefulShutdown, Runner, ShutdownState, Stop, TaskGroup};
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
/// async fn start(_: Stop) -> Result<Server, BoxError> {
///     let server = Server { tasks: TaskGroup::new(), state: ShutdownState::new() };
///     match std::fs::read("/there/is/no/such/file") {
///         Ok(_) => Ok(server),
///         Err(error) => Err(FailedStart::new(server, error).into()),
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let report = Runner::build(start).run(async |_: &mut Server, _: Stop| ()).await;
/// assert!(report.step("tasks").unwrap().outcome().is_done());
/// assert_eq!(report.exit_code(), 1);
/// # }
/// ```
pub struct FailedStart<S> {
    // The mutex makes the error `Sync` even if the server is not.
    server: Mutex<Option<S>>,
    error: BoxError,
}

impl<S> FailedStart<S> {
    /// Creates the error from the server that was built so far and the error that stopped the start.
    pub fn new(server: S, error: impl Into<BoxError>) -> Self {
        Self {
            server: Mutex::new(Some(server)),
            error: error.into(),
        }
    }

    pub(super) fn into_parts(self) -> (Option<S>, BoxError) {
        let server = self.server.into_inner();
        (server.unwrap_or_else(PoisonError::into_inner), self.error)
    }
}

impl<S> fmt::Debug for FailedStart<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FailedStart")
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

impl<S> fmt::Display for FailedStart<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<S> Error for FailedStart<S> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

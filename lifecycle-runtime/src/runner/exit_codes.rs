//! Ways to choose the exit code of a process.

use crate::{Reason, Report};

/// Ways to choose the exit code, for [`Runner::exit_code`](crate::Runner::exit_code).
///
/// | what happened | default ([`Report::exit_code`]) | [`shell`](Self::shell) |
/// |---|---|---|
/// | the shutdown is clean, and no signal began it | 0 | 0 |
/// | the shutdown is clean, and signal n began it | 0 | 128 + n |
/// | main failed, or a step that is not `best_effort` is not done | 1 | 1 |
/// | main panicked | 101 | 101 |
/// | signal n forced the end | 128 + n | 128 + n |
/// | the watchdog forced the end (`EX_SOFTWARE` of sysexits.h) | 70 | 70 |
///
/// By default a server that stopped when it was told to exits with 0, because it has done its work: systemd and
/// Kubernetes count any other code as a failure. A program that would have ended by itself was interrupted by the
/// signal, and shells and scripts expect a code that shows that.
#[derive(Debug)]
#[non_exhaustive]
pub enum ExitCodes {}

impl ExitCodes {
    /// Returns the exit codes for a program that runs to its end by itself. If a signal interrupts the program, its
    /// exit code shows the signal, as in shells.
    ///
    #[cfg_attr(feature = "derive", doc = "```")]
    #[cfg_attr(not(feature = "derive"), doc = "```ignore")]
    /// use lifecycle_runtime::{
    ///     ExitCodes, GracefulShutdown, Reason, Runner, ShutdownHandle, ShutdownState, Signal, Stop,
    /// };
    ///
    /// #[derive(GracefulShutdown)]
    /// #[shutdown(strict)]
    /// struct Job {
    ///     #[shutdown(state)]
    ///     state: ShutdownState,
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let interrupted = ShutdownHandle::new();
    /// interrupted.request(Reason::Signal(Signal::INTERRUPT));
    /// let report = Runner::new(Job { state: ShutdownState::new() })
    ///     .handle(&interrupted)
    ///     .exit_code(ExitCodes::shell())
    ///     .run(async |_: &mut Job, stop: Stop| stop.cancelled().await)
    ///     .await;
    /// assert_eq!(report.exit_code(), 130);
    /// # }
    /// ```
    pub fn shell() -> impl FnOnce(&Report) -> u8 + Send + 'static {
        |report| match (report.exit_code(), report.reason()) {
            (0, Reason::Signal(signal)) => signal.exit_code(),
            (code, _) => code,
        }
    }
}

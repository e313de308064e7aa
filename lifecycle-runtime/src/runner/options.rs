//! The options of a runner, and the times that follow from them.

use std::time::Duration;

use super::grace::Grace;
use super::lame_duck::LameDuck;
use crate::engine::RuntimeTimeouts;
use crate::plan::main_share;
use crate::state::DEFAULT_TIMEOUT;
use crate::{GracefulShutdown, Readiness, Report, ShutdownHandle, Signal};

/// The time limit for the drops and for the end of the runtime in [`Runner::block_on`](crate::Runner::block_on), which
/// have no timeout of their own.
pub(super) const END_TIMEOUT: Duration = Duration::from_secs(1);

/// The default time of all `finally` hooks together.
const FINALLY_TIMEOUT: Duration = Duration::from_secs(3);

/// The default time that a start has to return after it was told to stop.
const START_STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// The default time for which a dropped runtime may wait for its blocking pool.
const RUNTIME_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) type Finally = Box<dyn FnOnce(&Report) + Send>;
pub(super) type ExitCode = Box<dyn FnOnce(&Report) -> u8 + Send>;
pub(super) type SignalHook = Box<dyn FnMut() + Send>;

pub(super) struct Options {
    pub(super) handle: ShutdownHandle,
    pub(super) readiness: Option<Readiness>,
    pub(super) lame_duck: LameDuck,
    pub(super) grace: Option<Grace>,
    pub(super) watchdog: Option<Duration>,
    pub(super) hooks: Vec<(Signal, SignalHook)>,
    pub(super) second_signal: SecondSignal,
    pub(super) start: StartTimes,
    pub(super) finally: Vec<Finally>,
    pub(super) finally_timeout: Duration,
    pub(super) runtime_timeout: Option<Duration>,
    pub(super) exit_code: Option<ExitCode>,
}

/// The time limits of a runner's start.
#[derive(Clone, Copy)]
pub(super) struct StartTimes {
    pub(super) timeout: Option<Duration>,
    /// The time that the start has after it was told to stop.
    pub(super) stop_timeout: Duration,
}

/// The effect of a second signal that comes more than 500 ms after the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecondSignal {
    /// The second signal hurries the shutdown, as [`ShutdownHandle::hurry`] does. A third signal forces the end.
    #[default]
    Hurry,
    /// The second signal ends the start or the lame duck if one of them is running, and otherwise forces the end.
    Force,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            handle: ShutdownHandle::new(),
            readiness: None,
            lame_duck: LameDuck::default(),
            grace: None,
            watchdog: None,
            hooks: Vec::new(),
            second_signal: SecondSignal::default(),
            start: StartTimes {
                timeout: None,
                stop_timeout: START_STOP_TIMEOUT,
            },
            finally: Vec::new(),
            finally_timeout: FINALLY_TIMEOUT,
            runtime_timeout: Some(RUNTIME_TIMEOUT),
            exit_code: None,
        }
    }
}

impl Options {
    /// Returns how long the phases after the plan may take.
    pub(super) fn after_plan(&self) -> Duration {
        match self.finally.is_empty() {
            true => END_TIMEOUT,
            false => END_TIMEOUT.saturating_add(self.finally_timeout),
        }
    }

    /// Returns how long the process may live after the request of the shutdown. `None` if no watchdog is armed.
    /// `before` is the time from the request to the lame duck.
    pub(super) fn allowed(&self, before: Duration, budget: Option<Duration>) -> Option<Duration> {
        let slack = self.watchdog?;
        let parts = [
            before,
            self.lame_duck.longest(),
            budget.unwrap_or(DEFAULT_TIMEOUT),
            self.after_plan(),
            slack,
        ];
        Some(
            parts
                .into_iter()
                .fold(Duration::ZERO, Duration::saturating_add),
        )
    }
}

/// The times of a shutdown that are known before it begins.
pub(super) struct Bounds {
    /// The time limit of main and the plan together.
    pub(super) total: Duration,
    /// The part of `total` that main may not use, because the plan needs it.
    pub(super) reserve: Duration,
}

impl Bounds {
    pub(super) fn of<S: GracefulShutdown>(server: &S, options: &Options) -> Self {
        let times = RuntimeTimeouts::of(server, &S::PLAN);
        let total = times.total.unwrap_or(DEFAULT_TIMEOUT);
        let longest = times.longest(&S::PLAN, total);
        let lame_duck = options.lame_duck.longest();
        if let Some(grace) = options.grace {
            grace.check(S::PLAN.name(), lame_duck, total, options.after_plan());
        }
        Self {
            total,
            reserve: total.saturating_sub(main_share(longest, total)),
        }
    }
}

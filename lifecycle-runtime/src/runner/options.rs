//! What a runner is told, and the times that follow from it.

use std::time::Duration;

use super::grace::Grace;
use super::lame_duck::LameDuck;
use crate::engine::RuntimeTimeouts;
use crate::plan::main_share;
use crate::state::DEFAULT_TIMEOUT;
use crate::{GracefulShutdown, Readiness, Report, ShutdownHandle, Signal};

/// How long the end takes that has no time of its own: the drops, and what [`Runner::block_on`](crate::Runner::block_on)
/// waits for when its runtime is dropped.
pub(super) const END: Duration = Duration::from_secs(1);

/// How long the `finally` hooks have together.
const FINALLY: Duration = Duration::from_secs(3);

/// How long a start that was told to stop has to return what it built.
const START_STOP: Duration = Duration::from_secs(5);

/// How long the runtime may wait for its blocking pool once it is dropped.
const RUNTIME: Duration = Duration::from_secs(5);

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

/// How long a start may take.
#[derive(Clone, Copy)]
pub(super) struct StartTimes {
    pub(super) timeout: Option<Duration>,
    /// After it was told to stop.
    pub(super) stop_timeout: Duration,
}

/// What a second signal does, more than 500 ms after the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecondSignal {
    /// Hurries the shutdown, as [`ShutdownHandle::hurry`] does. A third signal forces the end.
    #[default]
    Hurry,
    /// Ends the start or the lame duck if one of them is running, and otherwise forces the end.
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
                stop_timeout: START_STOP,
            },
            finally: Vec::new(),
            finally_timeout: FINALLY,
            runtime_timeout: Some(RUNTIME),
            exit_code: None,
        }
    }
}

impl Options {
    /// How long what comes after the plan may take.
    pub(super) fn after_plan(&self) -> Duration {
        match self.finally.is_empty() {
            true => END,
            false => END.saturating_add(self.finally_timeout),
        }
    }

    /// How long a process may take from the request until it is gone, if a watchdog is to see to it. `before` is what
    /// comes before the lame duck.
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

/// The times of a shutdown, known before it begins.
pub(super) struct Bounds {
    /// The plan's.
    pub(super) total: Duration,
    /// What of that is kept from main.
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

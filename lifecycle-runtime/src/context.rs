//! The context that a component's cleanup gets as its argument.

use std::fmt;
use std::time::{Duration, Instant};

use crate::{Reason, clock};

/// The context of a cleanup. It gives a component the reason of the shutdown and its deadlines, and takes a description
/// of what the component is waiting for.
pub struct Context {
    start: Instant,
    hard: Instant,
    surroundings: Surroundings,
    /// Whether the next plan opened through this context belongs to the component that is the step's field itself.
    #[cfg(feature = "rt")]
    is_own: std::sync::atomic::AtomicBool,
}

/// The place where a cleanup runs.
enum Surroundings {
    /// The cleanup runs outside any plan, for this reason.
    Outside(Reason),
    /// The cleanup runs an owner's own plan, which is not inside a step.
    #[cfg(feature = "rt")]
    Root,
    #[cfg(feature = "rt")]
    Step(crate::engine::StepHandle),
}

impl Context {
    /// Creates a context outside any plan, for cleaning one component by hand. The component has the time `within`,
    /// from now on.
    ///
    /// ```
    /// use lifecycle_runtime::{Context, Reason};
    /// use std::time::Duration;
    ///
    /// let cx = Context::new(Reason::Requested, Duration::from_secs(10));
    /// assert!(cx.remaining() <= Duration::from_secs(9), "a tenth is the reserve");
    /// ```
    pub fn new(reason: Reason, within: Duration) -> Self {
        let now = clock::now();
        Self::at(Surroundings::Outside(reason), now, after(now, within))
    }

    fn at(surroundings: Surroundings, start: Instant, hard: Instant) -> Self {
        Self {
            start,
            hard,
            surroundings,
            #[cfg(feature = "rt")]
            is_own: std::sync::atomic::AtomicBool::new(false),
        }
    }

    /// Returns why the shutdown began.
    pub fn reason(&self) -> &Reason {
        match &self.surroundings {
            Surroundings::Outside(reason) => reason,
            #[cfg(feature = "rt")]
            Surroundings::Root => &Reason::Requested,
            #[cfg(feature = "rt")]
            Surroundings::Step(step) => &step.shared().reason,
        }
    }

    /// Returns the soft deadline, on tokio's clock. At this time a component should abort what still runs, *and wait
    /// until that has ended*, before the hard deadline. The time between the two deadlines is a tenth of the cleanup's
    /// time, at most 1 s.
    ///
    /// `tokio::time::Instant::from_std` turns the deadline into an argument of `timeout_at`.
    pub fn deadline(&self) -> Instant {
        soft(self.start, self.hard)
    }

    /// Returns the hard deadline, at which the cleanup's future is dropped and the component aborted.
    pub fn hard_deadline(&self) -> Instant {
        self.hard
    }

    /// Returns the time until the soft [`deadline`](Self::deadline). It is zero once the deadline has passed.
    pub fn remaining(&self) -> Duration {
        self.deadline().saturating_duration_since(clock::now())
    }

    /// Sets the description of what the step is waiting for. The description is shown in the progress, when the step is
    /// cut at its deadline, and by a forced end. A later call replaces the description of an earlier call.
    ///
    /// Other threads call the closure while the step is not polled, so it should read shared state, return quickly, and
    /// not block.
    pub fn waiting_for(&self, text: impl Fn() -> String + Send + Sync + 'static) {
        #[cfg(feature = "rt")]
        if let Some(step) = self.step() {
            step.waiting_for(text);
        }
        #[cfg(not(feature = "rt"))]
        drop(text);
    }

    /// Registers a hook that a forced end calls if the step has not ended by then. The hook may kill a child process,
    /// for example. It is called on a thread of the forced end, at most once, and its panics are contained.
    pub fn on_force(&self, hook: impl FnOnce() + Send + 'static) {
        #[cfg(feature = "rt")]
        if let Some(step) = self.step() {
            step.on_force(hook);
        }
        #[cfg(not(feature = "rt"))]
        drop(hook);
    }
}

#[cfg(feature = "rt")]
impl Context {
    /// Creates the context of a step. `is_own` is whether the next plan that is opened is that of the step's field
    /// itself.
    pub(crate) fn of_step(
        step: crate::engine::StepHandle,
        start: Instant,
        hard: Instant,
        is_own: bool,
    ) -> Self {
        Self {
            is_own: is_own.into(),
            ..Self::at(Surroundings::Step(step), start, hard)
        }
    }

    pub(crate) fn step(&self) -> Option<&crate::engine::StepHandle> {
        match &self.surroundings {
            Surroundings::Step(step) => Some(step),
            Surroundings::Root | Surroundings::Outside(_) => None,
        }
    }

    /// Returns the context for cleaning an owner whose plan is not inside a step. That plan has begun already, so this
    /// context holds no times.
    pub(crate) fn root() -> &'static Self {
        static ROOT: std::sync::LazyLock<Context> = std::sync::LazyLock::new(|| {
            let now = clock::now();
            Context::at(Surroundings::Root, now, now)
        });
        &ROOT
    }

    pub(crate) fn is_root(&self) -> bool {
        matches!(self.surroundings, Surroundings::Root)
    }

    /// Returns whether the plan that is being opened belongs to the component that is the step's field itself. Plans
    /// that are opened later belong to other components, so later calls return false.
    pub(crate) fn take_own(&self) -> bool {
        self.is_own
            .swap(false, std::sync::atomic::Ordering::Relaxed)
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("reason", self.reason())
            .field("remaining", &self.remaining())
            .finish_non_exhaustive()
    }
}

/// The longest time between the soft and the hard deadline.
const RESERVE: Duration = Duration::from_secs(1);

fn soft(start: Instant, hard: Instant) -> Instant {
    let reserve = (hard.saturating_duration_since(start) / 10).min(RESERVE);
    hard.checked_sub(reserve).unwrap_or(hard)
}

/// The time that stands for no limit: thirty years. It is longer than any plan runs, and short enough to be added to
/// any instant.
pub(crate) const FOREVER: Duration = Duration::from_secs(60 * 60 * 24 * 365 * 30);

/// Returns `start + within`. A longer time than thirty years counts as thirty years.
pub(crate) fn after(start: Instant, within: Duration) -> Instant {
    start.checked_add(within.min(FOREVER)).unwrap_or(start)
}

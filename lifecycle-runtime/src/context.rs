//! The context that a component's cleanup is given.

use std::fmt;
use std::time::{Duration, Instant};

use crate::{Reason, clock};

/// The context of a cleanup: it tells a component why the shutdown began and how long it has, and takes what the
/// component is waiting for.
pub struct Context {
    start: Instant,
    hard: Instant,
    surroundings: Surroundings,
    /// Whether the next plan opened through this context belongs to the very component that the step cleans.
    #[cfg(feature = "rt")]
    is_own: std::sync::atomic::AtomicBool,
}

/// The surroundings of a cleanup.
enum Surroundings {
    /// No plan.
    Outside(Reason),
    /// The owner's own plan, which runs by itself and not as a step.
    #[cfg(feature = "rt")]
    Root,
    #[cfg(feature = "rt")]
    Step(crate::engine::StepHandle),
}

impl Context {
    /// Creates a context outside any plan, for cleaning one component by hand. The component has `within` from now.
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

    /// Returns the soft deadline, on tokio's clock. A component should then abort its stragglers *and await them*, in
    /// the reserve that follows: a tenth of the budget, at most 1 s.
    ///
    /// `tokio::time::Instant::from_std` turns it into an argument of `timeout_at`.
    pub fn deadline(&self) -> Instant {
        soft(self.start, self.hard)
    }

    /// Returns the hard deadline, at which the cleanup's future is dropped and the component aborted.
    pub fn hard_deadline(&self) -> Instant {
        self.hard
    }

    /// Returns the time until the soft [`deadline`](Self::deadline). Zero once it has passed.
    pub fn remaining(&self) -> Duration {
        self.deadline().saturating_duration_since(clock::now())
    }

    /// Describes what the step is waiting for. The text is shown in the progress, when the step is cut at its
    /// deadline, and by a forced end. A later call replaces an earlier one.
    ///
    /// Other threads call the closure while the step is not polled: let it read shared state, briefly, and not block.
    pub fn waiting_for(&self, text: impl Fn() -> String + Send + Sync + 'static) {
        #[cfg(feature = "rt")]
        if let Some(step) = self.step() {
            step.waiting_for(text);
        }
        #[cfg(not(feature = "rt"))]
        drop(text);
    }

    /// Registers a hook that a forced end runs if the step has not ended by then, such as killing a child process. It
    /// runs on the thread of the forced end, at most once, and its panics are contained.
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
    /// Creates the context of a step. `is_own` tells whether the plan that the component opens is the step's own.
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

    /// Returns the context for cleaning an owner whose plan runs by itself. That plan has begun already, so this
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

    /// Returns whether the plan that is being opened belongs to the very component that the step cleans. Plans opened
    /// later belong to other components.
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

/// The longest reserve between the soft and the hard deadline.
const RESERVE: Duration = Duration::from_secs(1);

fn soft(start: Instant, hard: Instant) -> Instant {
    let reserve = (hard.saturating_duration_since(start) / 10).min(RESERVE);
    hard.checked_sub(reserve).unwrap_or(hard)
}

/// Thirty years: longer than any plan runs, and short enough to be added to any instant.
pub(crate) const FOREVER: Duration = Duration::from_secs(60 * 60 * 24 * 365 * 30);

/// Returns `start + within`, or an instant so far away that it is never reached.
pub(crate) fn after(start: Instant, within: Duration) -> Instant {
    start.checked_add(within.min(FOREVER)).unwrap_or(start)
}

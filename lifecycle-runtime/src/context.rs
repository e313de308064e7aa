//! What a component is told while it is cleaned.

use std::fmt;
use std::time::{Duration, Instant};

use crate::{Reason, clock};

/// Tells a component why it is cleaned and how long it has, and lets it say what it waits for.
pub struct Context {
    start: Instant,
    hard: Instant,
    place: Place,
    /// Whether the next plan that is opened through it is that of the very component that the step cleans.
    #[cfg(feature = "rt")]
    is_own: std::sync::atomic::AtomicBool,
}

/// Where it is that something is cleaned.
enum Place {
    /// In no plan.
    Outside(Reason),
    /// In its own plan, which no step is around.
    #[cfg(feature = "rt")]
    Root,
    #[cfg(feature = "rt")]
    Step(crate::engine::StepHandle),
}

impl Context {
    /// A context outside any plan, for cleaning one component by hand: it has `within` from now.
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
        Self::at(Place::Outside(reason), now, after(now, within))
    }

    fn at(place: Place, start: Instant, hard: Instant) -> Self {
        Self {
            start,
            hard,
            place,
            #[cfg(feature = "rt")]
            is_own: std::sync::atomic::AtomicBool::new(false),
        }
    }

    /// Why the shutdown began.
    pub fn reason(&self) -> &Reason {
        match &self.place {
            Place::Outside(reason) => reason,
            #[cfg(feature = "rt")]
            Place::Root => &Reason::Requested,
            #[cfg(feature = "rt")]
            Place::Step(step) => &step.shared().reason,
        }
    }

    /// The soft deadline, on tokio's clock: what still runs then should be aborted *and awaited* in
    /// the reserve that follows, a tenth of the budget and at most 1 s.
    ///
    /// `tokio::time::Instant::from_std` makes it an argument for `timeout_at`.
    pub fn deadline(&self) -> Instant {
        soft(self.start, self.hard)
    }

    /// The hard deadline, at which the future of the cleanup is dropped and the component aborted.
    pub fn hard_deadline(&self) -> Instant {
        self.hard
    }

    /// How long it is until the soft [`deadline`](Self::deadline); zero once it has passed.
    pub fn remaining(&self) -> Duration {
        self.deadline().saturating_duration_since(clock::now())
    }

    /// Says what the step is waiting for. Read for progress, when the step is cut at its deadline, and
    /// by a forced end; a later call replaces an earlier one.
    ///
    /// The closure is called from other threads, while the step is not polled: read shared state in
    /// it, briefly, and do not block.
    pub fn waiting_for(&self, text: impl Fn() -> String + Send + Sync + 'static) {
        #[cfg(feature = "rt")]
        if let Some(step) = self.step() {
            step.waiting_for(text);
        }
        #[cfg(not(feature = "rt"))]
        drop(text);
    }

    /// Gives the forced end something to run, from its own thread, if the step has not ended by then:
    /// killing a child, say. Each hook is run at most once; its panics are contained.
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
    /// What the component of this step is told. `is_own` if its plan is the step's own.
    pub(crate) fn of_step(
        step: crate::engine::StepHandle,
        start: Instant,
        hard: Instant,
        is_own: bool,
    ) -> Self {
        Self {
            is_own: is_own.into(),
            ..Self::at(Place::Step(step), start, hard)
        }
    }

    pub(crate) fn step(&self) -> Option<&crate::engine::StepHandle> {
        match &self.place {
            Place::Step(step) => Some(step),
            Place::Root | Place::Outside(_) => None,
        }
    }

    /// What an owner is cleaned with whose plan runs by itself: it was begun, so nothing is left to tell.
    pub(crate) fn root() -> &'static Self {
        static ROOT: std::sync::LazyLock<Context> = std::sync::LazyLock::new(|| {
            let now = clock::now();
            Context::at(Place::Root, now, now)
        });
        &ROOT
    }

    pub(crate) fn is_root(&self) -> bool {
        matches!(self.place, Place::Root)
    }

    /// Whether the plan that is opened now is that of the very component that the step cleans. One that is opened later
    /// is another component's.
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

/// Thirty years: longer than any plan runs, and short enough to be added to any time.
pub(crate) const FOREVER: Duration = Duration::from_secs(60 * 60 * 24 * 365 * 30);

/// `start + within`, or a time so far away that it is never reached.
pub(crate) fn after(start: Instant, within: Duration) -> Instant {
    start.checked_add(within.min(FOREVER)).unwrap_or(start)
}

//! What a component is told while it is cleaned.

use std::fmt;
use std::time::{Duration, Instant};

use crate::{Reason, clock};

/// Tells a component why it is cleaned and how long it has, and lets it say what it waits for.
pub struct Context {
    reason: Reason,
    soft: Instant,
    hard: Instant,
    #[cfg(feature = "rt")]
    place: Place,
    /// How many plans were opened through it.
    #[cfg(feature = "rt")]
    opened: std::sync::atomic::AtomicUsize,
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
        Self::over(reason, now, after(now, within))
    }

    /// A context from `start` to the hard deadline.
    pub(crate) fn over(reason: Reason, start: Instant, hard: Instant) -> Self {
        Self {
            reason,
            soft: soft(start, hard),
            hard,
            #[cfg(feature = "rt")]
            place: Place::Outside,
            #[cfg(feature = "rt")]
            opened: std::sync::atomic::AtomicUsize::new(0),
        }
    }

    /// Why the shutdown began.
    pub fn reason(&self) -> &Reason {
        &self.reason
    }

    /// The soft deadline, on tokio's clock: what still runs then should be aborted *and awaited* in
    /// the reserve that follows, a tenth of the budget and at most 1 s.
    ///
    /// `tokio::time::Instant::from_std` makes it an argument for `timeout_at`.
    pub fn deadline(&self) -> Instant {
        self.soft
    }

    /// The hard deadline, at which the future of the cleanup is dropped and the component aborted.
    pub fn hard_deadline(&self) -> Instant {
        self.hard
    }

    /// How long it is until the soft [`deadline`](Self::deadline); zero once it has passed.
    pub fn remaining(&self) -> Duration {
        self.soft.saturating_duration_since(clock::now())
    }

    /// Says what the step is waiting for. Read for progress, when the step is cut at its deadline, and
    /// by a forced end; a later call replaces an earlier one.
    ///
    /// The closure is called from other threads, while the step is not polled: read shared state in
    /// it, briefly, and do not block.
    pub fn waiting_for(&self, text: impl Fn() -> String + Send + Sync + 'static) {
        #[cfg(feature = "rt")]
        if let Some(seat) = self.seat() {
            seat.waiting_for(text);
        }
        #[cfg(not(feature = "rt"))]
        drop(text);
    }

    /// Gives the forced end something to run, from its own thread, if the step has not ended by then:
    /// killing a child, say. Each hook is run at most once; its panics are contained.
    pub fn on_force(&self, hook: impl FnOnce() + Send + 'static) {
        #[cfg(feature = "rt")]
        if let Some(seat) = self.seat() {
            seat.on_force(hook);
        }
        #[cfg(not(feature = "rt"))]
        drop(hook);
    }
}

/// Where it is that something is cleaned.
#[cfg(feature = "rt")]
enum Place {
    /// In no plan.
    Outside,
    /// In none that is around it, but in its own.
    Root,
    Seat(crate::engine::Seat),
}

#[cfg(feature = "rt")]
impl Context {
    pub(crate) fn seated(mut self, seat: crate::engine::Seat) -> Self {
        self.place = Place::Seat(seat);
        self
    }

    pub(crate) fn seat(&self) -> Option<&crate::engine::Seat> {
        match &self.place {
            Place::Seat(seat) => Some(seat),
            Place::Root | Place::Outside => None,
        }
    }

    /// What an owner is cleaned with whose plan runs by itself: that was begun, so that nothing is left to tell.
    pub(crate) fn root() -> &'static Self {
        static ROOT: std::sync::LazyLock<Context> = std::sync::LazyLock::new(|| Context {
            place: Place::Root,
            ..Context::new(Reason::Requested, Duration::ZERO)
        });
        &ROOT
    }

    pub(crate) fn is_root(&self) -> bool {
        matches!(self.place, Place::Root)
    }

    /// The place of the next plan that is opened through it: a component may clean several, and a run
    /// that takes them up again opens them in the same order.
    pub(crate) fn open_next(&self) -> usize {
        // Relaxed: it only counts.
        self.opened
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed)
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("reason", &self.reason)
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

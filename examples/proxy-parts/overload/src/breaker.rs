//! A circuit breaker. After several failures in a row it rejects requests for a while. Then it
//! admits one request as a trial, and closes again if the trial succeeds.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use lifecycle_proxy_common::timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// The largest pause, as a multiple of the first pause. Each failed trial doubles the pause.
const LONGEST: u32 = 16;

/// The settings of a breaker.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The number of failures in a row that open the breaker.
    pub failures: u32,
    /// The pause after the breaker has opened for the first time.
    pub open: Duration,
}

/// A circuit breaker. Clones are cheap and share state.
#[derive(Clone, Debug)]
pub struct Breaker(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: Settings,
    state: Mutex<State>,
    /// Whether the breaker is closed and has counted no failure. Requests that succeed then need no
    /// lock. Changed only under the lock of `state`.
    is_calm: AtomicBool,
    opened: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant, pause: Duration },
    HalfOpen { on_trial: bool, pause: Duration },
}

impl State {
    const CALM: Self = Self::Closed { failures: 0 };
}

/// The stage of a breaker, which decides about the next request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stage {
    /// The breaker admits all requests.
    Closed,
    /// The breaker admits one request as a trial.
    HalfOpen,
    /// The breaker admits no request.
    Open,
}

/// The state of a breaker that is not closed. Its times are those of the wall clock, so that
/// another process can restore the state.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Tripped {
    /// The time until which no request is admitted.
    #[serde(with = "timestamp::unix_millis")]
    until: Option<SystemTime>,
    /// The last pause, which doubles if the next trial fails.
    #[serde(rename = "pause_ms", with = "timestamp::whole_millis")]
    pause: Duration,
}

/// The permission for one request. The holder reports the request's result. If the ticket is
/// dropped without a result, another request may be the trial.
#[derive(Debug)]
#[must_use]
pub struct Ticket<'a> {
    breaker: &'a Breaker,
    is_trial: bool,
}

impl Breaker {
    /// Creates a closed breaker.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(Inner {
            settings,
            state: Mutex::new(State::CALM),
            is_calm: AtomicBool::new(true),
            opened: AtomicU64::new(0),
        }))
    }

    /// Admits a request, or returns `None` if the breaker rejects it.
    pub fn admit(&self) -> Option<Ticket<'_>> {
        if self.is_calm() {
            return Some(self.ticket(false));
        }
        let mut state = self.state();
        let is_trial = match *state {
            State::Closed { .. } => false,
            State::Open { until, pause } if until <= Instant::now() => {
                *state = State::HalfOpen {
                    on_trial: true,
                    pause,
                };
                true
            }
            State::HalfOpen {
                on_trial: false,
                pause,
            } => {
                *state = State::HalfOpen {
                    on_trial: true,
                    pause,
                };
                true
            }
            State::Open { .. } | State::HalfOpen { .. } => return None,
        };
        drop(state);
        Some(self.ticket(is_trial))
    }

    const fn ticket(&self, is_trial: bool) -> Ticket<'_> {
        Ticket {
            breaker: self,
            is_trial,
        }
    }

    fn is_calm(&self) -> bool {
        self.0.is_calm.load(Ordering::Relaxed)
    }

    /// Sets the state, whose lock is held.
    fn set(&self, state: &mut State, new: State) {
        *state = new;
        let is_calm = matches!(new, State::Closed { failures: 0 });
        self.0.is_calm.store(is_calm, Ordering::Relaxed);
    }

    /// Returns the current stage of the breaker.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match *self.state() {
            State::Closed { .. } => Stage::Closed,
            State::Open { until, .. } if until > Instant::now() => Stage::Open,
            State::Open { .. } | State::HalfOpen { .. } => Stage::HalfOpen,
        }
    }

    /// Returns the time for which the breaker stays open from now on. `None` if it is not open.
    #[must_use]
    pub fn pause(&self) -> Option<Duration> {
        match *self.state() {
            State::Open { until, .. } => {
                let pause = until.saturating_duration_since(Instant::now());
                (!pause.is_zero()).then_some(pause)
            }
            _ => None,
        }
    }

    /// Returns how often the breaker has opened.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.0.opened.load(Ordering::Relaxed)
    }

    /// Returns the state of the breaker for a file. `None` if the breaker is closed.
    #[must_use]
    pub fn tripped(&self) -> Option<Tripped> {
        let (until, pause) = match *self.state() {
            State::Closed { .. } => return None,
            State::Open { until, pause } => (until, pause),
            State::HalfOpen { pause, .. } => (Instant::now(), pause),
        };
        let left = until.saturating_duration_since(Instant::now());
        Some(Tripped {
            until: SystemTime::now().checked_add(left),
            pause,
        })
    }

    /// Restores a saved state. The breaker stays open for the rest of the saved pause, and never
    /// longer than the whole pause, even if the clock was set back.
    pub fn resume(&self, tripped: Tripped) {
        let pause = self.bounded(tripped.pause);
        let until = tripped.until.unwrap_or(SystemTime::UNIX_EPOCH);
        let left = until.duration_since(SystemTime::now()).unwrap_or_default();
        let open = State::Open {
            until: Instant::now() + left.min(pause),
            pause,
        };
        self.set(&mut self.state(), open);
    }

    fn bounded(&self, pause: Duration) -> Duration {
        pause.min(self.0.settings.open * LONGEST)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, pause: Duration) -> State {
        self.0.opened.fetch_add(1, Ordering::Relaxed);
        let pause = self.bounded(pause);
        State::Open {
            until: Instant::now() + pause,
            pause,
        }
    }
}

impl Ticket<'_> {
    /// Records that the request has succeeded.
    pub fn succeeded(mut self) {
        if self.breaker.is_calm() {
            return;
        }
        let mut state = self.breaker.state();
        if self.is_trial || matches!(*state, State::Closed { .. }) {
            self.breaker.set(&mut state, State::CALM);
        }
        drop(state);
        self.is_trial = false;
    }

    /// Records that the request has failed. Ignores requests that were admitted before the breaker
    /// opened.
    pub fn failed(mut self) {
        let Settings {
            failures: most,
            open,
        } = self.breaker.0.settings;
        let mut state = self.breaker.state();
        let next = match *state {
            State::HalfOpen { pause, .. } if self.is_trial => self.breaker.open(pause * 2),
            State::Closed { failures } if failures + 1 >= most => self.breaker.open(open),
            State::Closed { failures } => State::Closed {
                failures: failures + 1,
            },
            unchanged => unchanged,
        };
        self.breaker.set(&mut state, next);
        drop(state);
        self.is_trial = false;
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if self.is_trial
            && let State::HalfOpen { on_trial, .. } = &mut *self.breaker.state()
        {
            *on_trial = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const PAUSE: Duration = Duration::from_secs(10);

    fn breaker() -> Breaker {
        Breaker::new(Settings {
            failures: 3,
            open: PAUSE,
        })
    }

    fn fail(breaker: &Breaker, times: u32) {
        for _ in 0..times {
            breaker.admit().unwrap().failed();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_opens_after_failures_in_a_row_only() {
        let breaker = breaker();
        fail(&breaker, 2);
        breaker.admit().unwrap().succeeded();
        fail(&breaker, 2);
        assert_eq!(breaker.stage(), Stage::Closed);
        fail(&breaker, 1);
        assert_eq!((breaker.stage(), breaker.opened()), (Stage::Open, 1));
        assert!(breaker.admit().is_none());
        advance(PAUSE / 4).await;
        assert_eq!(breaker.pause(), Some(PAUSE * 3 / 4));
    }

    #[tokio::test(start_paused = true)]
    async fn after_the_pause_a_successful_trial_closes_it() {
        let breaker = breaker();
        fail(&breaker, 3);
        advance(PAUSE).await;
        assert_eq!(breaker.stage(), Stage::HalfOpen);
        let trial = breaker.admit().unwrap();
        assert!(breaker.admit().is_none(), "one at a time");
        trial.succeeded();
        assert_eq!(breaker.stage(), Stage::Closed);
        fail(&breaker, 2);
        assert_eq!(breaker.stage(), Stage::Closed, "it counts from nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn a_trial_that_fails_doubles_the_pause_up_to_a_limit() {
        let breaker = breaker();
        fail(&breaker, 3);
        for pause in [10, 20, 40, 80, 160, 160] {
            advance(Duration::from_secs(pause - 1)).await;
            assert!(breaker.admit().is_none(), "{pause}");
            advance(Duration::from_secs(1)).await;
            breaker.admit().unwrap().failed();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_trial_without_a_result_passes_to_the_next_request() {
        let breaker = breaker();
        fail(&breaker, 3);
        advance(PAUSE).await;
        drop(breaker.admit().unwrap());
        breaker.admit().unwrap().succeeded();
        assert_eq!(breaker.stage(), Stage::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_from_before_the_opening_do_not_count() {
        let breaker = breaker();
        let (early, late) = (breaker.admit().unwrap(), breaker.admit().unwrap());
        fail(&breaker, 3);
        early.succeeded();
        assert_eq!(breaker.stage(), Stage::Open);
        late.failed();
        assert_eq!(breaker.opened(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_restored_breaker_stays_open_for_the_rest_of_its_pause() {
        let (before, after) = (breaker(), breaker());
        assert_eq!(before.tripped(), None);
        fail(&before, 3);
        advance(PAUSE - Duration::from_secs(4)).await;
        after.resume(before.tripped().unwrap());
        advance(Duration::from_secs(3)).await;
        assert!(after.admit().is_none());
        // The wall clock is not paused in this test, so some time may have passed since the state
        // was saved.
        advance(Duration::from_secs(1)).await;
        after.admit().unwrap().failed();
        advance(PAUSE * 2 - Duration::from_secs(1)).await;
        assert!(after.admit().is_none(), "the pause has doubled");
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_was_set_back_makes_no_pause_longer() {
        let breaker = breaker();
        breaker.resume(Tripped {
            until: SystemTime::now().checked_add(PAUSE * 1000),
            pause: PAUSE,
        });
        advance(PAUSE).await;
        assert_eq!(breaker.stage(), Stage::HalfOpen);
        breaker.resume(Tripped {
            until: None,
            pause: PAUSE * 1000,
        });
        assert_eq!(breaker.stage(), Stage::HalfOpen);
    }
}

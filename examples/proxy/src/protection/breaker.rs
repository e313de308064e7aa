//! A circuit breaker: after some failures in a row it lets nobody through for a
//! while, then one, and all again once that one came back well.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::telemetry::timestamp;

/// The pause doubles with every trial that fails, up to so many times the first.
const LONGEST: u32 = 16;

/// When a breaker opens, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Failures in a row.
    pub failures: u32,
    /// The first pause.
    pub open: Duration,
}

/// A circuit breaker. A cheap clone is the same one.
#[derive(Clone, Debug)]
pub struct Breaker(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: Settings,
    state: Mutex<State>,
    opened: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant, pause: Duration },
    HalfOpen { on_trial: bool, pause: Duration },
}

/// Where a breaker stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stage {
    /// Everyone passes.
    Closed,
    /// One passes, to see how it goes.
    HalfOpen,
    /// Nobody passes.
    Open,
}

/// A breaker that does not let everyone pass, by the wall clock, so that it can be
/// told to another process.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Tripped {
    /// Nobody passes until then; one does after.
    #[serde(with = "timestamp::unix_millis")]
    until: Option<SystemTime>,
    /// Its last pause; doubled if the next trial fails.
    #[serde(rename = "pause_ms", with = "timestamp::whole_millis")]
    pause: Duration,
}

/// Leave to try. Its holder says how it went; one that is dropped without a word
/// says nothing, and the next may try in its place.
#[derive(Debug)]
#[must_use]
pub struct Ticket {
    breaker: Breaker,
    is_trial: bool,
}

impl Breaker {
    /// A closed breaker.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(Inner {
            settings,
            state: Mutex::new(State::Closed { failures: 0 }),
            opened: AtomicU64::new(0),
        }))
    }

    /// Leave to try, unless it is open.
    pub fn admit(&self) -> Option<Ticket> {
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
        Some(Ticket {
            breaker: self.clone(),
            is_trial,
        })
    }

    /// Where it stands now.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match *self.state() {
            State::Closed { .. } => Stage::Closed,
            State::Open { until, .. } if until > Instant::now() => Stage::Open,
            State::Open { .. } | State::HalfOpen { .. } => Stage::HalfOpen,
        }
    }

    /// How long it lets nobody through from now on.
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

    /// How often it opened.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.0.opened.load(Ordering::Relaxed)
    }

    /// What another process should know of it: nothing while it is closed.
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

    /// Goes on where a breaker stood in another process, for the rest of its pause. A
    /// clock that was set back meanwhile makes that no longer than the pause.
    pub fn resume(&self, tripped: Tripped) {
        let pause = self.bounded(tripped.pause);
        let until = tripped.until.unwrap_or(SystemTime::UNIX_EPOCH);
        let left = until.duration_since(SystemTime::now()).unwrap_or_default();
        *self.state() = State::Open {
            until: Instant::now() + left.min(pause),
            pause,
        };
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

impl Ticket {
    /// It went well.
    pub fn succeeded(mut self) {
        let mut state = self.breaker.state();
        if self.is_trial || matches!(*state, State::Closed { .. }) {
            *state = State::Closed { failures: 0 };
        }
        drop(state);
        self.is_trial = false;
    }

    /// It failed. What was let through before the breaker opened counts no more.
    pub fn failed(mut self) {
        let Settings {
            failures: most,
            open,
        } = self.breaker.0.settings;
        let mut state = self.breaker.state();
        *state = match *state {
            State::HalfOpen { pause, .. } if self.is_trial => self.breaker.open(pause * 2),
            State::Closed { failures } if failures + 1 >= most => self.breaker.open(open),
            State::Closed { failures } => State::Closed {
                failures: failures + 1,
            },
            unchanged => unchanged,
        };
        drop(state);
        self.is_trial = false;
    }
}

impl Drop for Ticket {
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
    async fn after_the_pause_one_is_let_through_and_closes_it() {
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
    async fn a_trial_that_nobody_ended_is_given_to_the_next() {
        let breaker = breaker();
        fail(&breaker, 3);
        advance(PAUSE).await;
        drop(breaker.admit().unwrap());
        breaker.admit().unwrap().succeeded();
        assert_eq!(breaker.stage(), Stage::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn what_began_before_it_opened_does_not_count_after() {
        let breaker = breaker();
        let (early, late) = (breaker.admit().unwrap(), breaker.admit().unwrap());
        fail(&breaker, 3);
        early.succeeded();
        assert_eq!(breaker.stage(), Stage::Open);
        late.failed();
        assert_eq!(breaker.opened(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_resumed_stays_open_for_the_rest_of_its_pause() {
        let (before, after) = (breaker(), breaker());
        assert_eq!(before.tripped(), None);
        fail(&before, 3);
        advance(PAUSE - Duration::from_secs(4)).await;
        after.resume(before.tripped().unwrap());
        advance(Duration::from_secs(3)).await;
        assert!(after.admit().is_none());
        // The wall clock, which is not paused, may have gone on between the two.
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

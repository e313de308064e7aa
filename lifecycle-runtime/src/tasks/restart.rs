//! The policy that decides whether and when a supervised task runs again.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

use tokio::time::Instant;

/// The shortest wait before a restart, so that a task that fails at once does not keep the executor busy.
const SHORTEST: Duration = Duration::from_millis(1);

/// A policy that decides when a task of [`Spawner::supervise`](crate::Spawner::supervise) is restarted, and when it is
/// no longer restarted.
///
/// By default the wait is about 100 ms before the first restart, and twice as long before each further one, up to 30 s.
/// A task that fails again after 5 restarts within 60 s is not restarted any more.
///
/// ```
/// use lifecycle_runtime::Restart;
/// use std::time::Duration;
///
/// const FEED: Restart = Restart::on_failure()
///     .backoff(Duration::from_millis(250), Duration::from_secs(10))
///     .at_most(5, Duration::from_secs(60));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a policy does nothing until a task is supervised by it"]
pub struct Restart {
    always: bool,
    first: Duration,
    longest: Duration,
    most: u32,
    per: Duration,
}

impl Restart {
    /// Creates a policy that restarts a task that ends with an error or a panic. A task that returns `Ok` or `()` has
    /// ended.
    pub const fn on_failure() -> Self {
        Self {
            always: false,
            first: Duration::from_millis(100),
            longest: Duration::from_secs(30),
            most: 5,
            per: Duration::from_secs(60),
        }
    }

    /// Creates a policy that restarts a task however it ends. It is meant for a task that should run until the
    /// shutdown.
    pub const fn always() -> Self {
        let mut policy = Self::on_failure();
        policy.always = true;
        policy
    }

    /// Sets the waits before restarts: `first` before the first restart, twice as long before each further one, up to
    /// `longest`. A wait below 1 ms counts as 1 ms.
    ///
    /// The actual wait is a random time between half of this wait and all of it, so that the tasks of many servers,
    /// which fail together, do not restart together. A run that lasts at least `longest` resets the wait to `first`.
    pub const fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.first = first;
        self.longest = longest;
        self
    }

    /// Sets the limit of restarts: a task that fails again after `restarts` restarts within `per` is not restarted any
    /// more, like the restart intensity of an OTP supervisor. The waits count as a part of `per`: if they are long, the
    /// limit may never be reached.
    ///
    /// If `restarts` is 0, the task is not restarted at all. If it is `u32::MAX`, there is no limit.
    pub const fn at_most(mut self, restarts: u32, per: Duration) -> Self {
        self.most = restarts;
        self.per = per;
        self
    }

    /// Returns whether a task that ended without a failure runs again.
    pub(super) fn is_always(&self) -> bool {
        self.always
    }

    /// Returns the limit: the number of restarts, and the length of the time in which they are counted.
    pub(super) fn limit(&self) -> (u32, Duration) {
        (self.most, self.per)
    }

    /// Returns the upper bound of the random wait, after `in_a_row` restarts without a run that lasted at least
    /// `longest`.
    fn longest_wait(&self, in_a_row: u32) -> Duration {
        let wait = self.first.max(SHORTEST);
        let wait = wait.saturating_mul(2_u32.saturating_pow(in_a_row));
        wait.min(self.longest.max(SHORTEST))
    }
}

/// The recent restarts of one task.
#[derive(Default)]
pub(super) struct History {
    /// The times of the restarts that count towards the limit, the oldest first.
    recent: VecDeque<Instant>,
    /// The number of restarts since the last run that lasted at least `longest`.
    in_a_row: u32,
}

impl History {
    /// Records a failed run, and returns the wait before the next run. `None` if the limit of restarts is exceeded.
    pub(super) fn wait(
        &mut self,
        policy: &Restart,
        began: Instant,
        now: Instant,
    ) -> Option<Duration> {
        if now.saturating_duration_since(began) >= policy.longest {
            self.in_a_row = 0;
        }
        let old = |restart: &Instant| now.saturating_duration_since(*restart) >= policy.per;
        while self.recent.front().is_some_and(old) {
            self.recent.pop_front();
        }
        if self.recent.len() >= policy.most as usize {
            return None;
        }
        self.recent.push_back(now);
        let half = policy.longest_wait(self.in_a_row) / 2;
        self.in_a_row = self.in_a_row.saturating_add(1);
        Some(half + half.mul_f64(random_fraction()))
    }
}

/// Returns a random number in `0.0..1.0`. The keys of std's hash maps are random enough to spread restarts.
fn random_fraction() -> f64 {
    let random = RandomState::new().build_hasher().finish();
    // The result has 53 random bits, which an f64 holds exactly.
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn waits_double_up_to_the_longest_and_none_overflows() {
        let policy = Restart::on_failure().backoff(10 * MS, 70 * MS);
        let waits = [0, 1, 2, 3, 31, 32, u32::MAX].map(|row| policy.longest_wait(row) / 10);
        assert_eq!(waits, [MS, 2 * MS, 4 * MS, 7 * MS, 7 * MS, 7 * MS, 7 * MS]);
        let endless = policy.backoff(Duration::MAX, Duration::MAX);
        assert_eq!(endless.longest_wait(1), Duration::MAX);
        let none = policy.backoff(Duration::ZERO, Duration::ZERO);
        assert_eq!(none.longest_wait(9), MS);
    }

    #[test]
    fn random_fractions_lie_between_0_and_1_and_are_spread() {
        let fractions: Vec<_> = (0..1_000).map(|_| random_fraction()).collect();
        assert!(
            fractions
                .iter()
                .all(|fraction| (0.0..1.0).contains(fraction))
        );
        for tenth in 0..10 {
            let tenth = f64::from(tenth) / 10.0..f64::from(tenth + 1) / 10.0;
            let count = fractions.iter().filter(|one| tenth.contains(one)).count();
            // The expected count is 100, and 40 is more than six standard deviations below that.
            assert!(count > 40, "{count} of 1000 in {tenth:?}");
        }
    }
}

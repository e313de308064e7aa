//! A rate limit of log lines.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// A limit of one log line a second. The caller counts its events, so that the next line can
/// contain the number of events.
#[derive(Debug)]
pub struct Throttle {
    since: Instant,
    /// The time from which on the next line is allowed, in milliseconds since `since`.
    next: AtomicU64,
}

impl Default for Throttle {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            next: AtomicU64::new(0),
        }
    }
}

impl Throttle {
    const PAUSE: Duration = Duration::from_secs(1);

    /// Returns whether a line may be logged now. If so, no other line is allowed for a second.
    pub fn allows(&self) -> bool {
        let now = self.since.elapsed();
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        // Relaxed, since this value publishes no other memory. Of several callers at the same time,
        // one succeeds.
        self.next
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
                (millis(now) >= next).then(|| millis(now + Self::PAUSE))
            })
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_a_second() {
        let throttle = Throttle::default();
        assert!(throttle.allows());
        assert!(!throttle.allows());
        tokio::time::advance(Duration::from_millis(999)).await;
        assert!(!throttle.allows());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(throttle.allows());
    }
}

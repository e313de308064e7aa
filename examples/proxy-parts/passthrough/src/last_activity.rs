//! The time of a client's last activity.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// The time of the last byte that a client sent or got.
#[derive(Debug)]
pub(super) struct LastActivity {
    since: Instant,
    /// The time of the last byte, in milliseconds since `since`.
    last: AtomicU64,
}

impl Default for LastActivity {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            last: AtomicU64::new(0),
        }
    }
}

impl LastActivity {
    pub(super) fn touch(&self) {
        let elapsed = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(elapsed, Ordering::Relaxed);
    }

    pub(super) fn last(&self) -> Instant {
        self.since + Duration::from_millis(self.last.load(Ordering::Relaxed))
    }

    /// Waits until no byte has passed for the time `limit`.
    pub(super) async fn silent_for(&self, limit: Duration) {
        loop {
            let due = self.last() + limit;
            if due <= Instant::now() {
                return;
            }
            sleep_until(due).await;
        }
    }
}

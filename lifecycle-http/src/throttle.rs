//! A limit on how often a warning of one kind is logged.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The shortest time between two warnings of one kind.
const QUIET: Duration = Duration::from_secs(5);

/// A throttle that allows one warning in five seconds.
#[derive(Debug, Default)]
pub(crate) struct Throttle(Mutex<Option<Instant>>);

impl Throttle {
    pub(crate) fn allows(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let allows = last.is_none_or(|last| now.duration_since(last) >= QUIET);
        if allows {
            *last = Some(now);
        }
        allows
    }
}

//! Records events in order, with their times on tokio's clock.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A list of events, to which all probes of a test write. Clones of a `Trace` share the same list.
#[derive(Clone, Debug)]
pub struct Trace {
    began: Instant,
    events: Arc<Mutex<Vec<(String, Duration)>>>,
}

impl Default for Trace {
    fn default() -> Self {
        Self::new()
    }
}

impl Trace {
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            events: Arc::default(),
        }
    }

    pub fn add(&self, event: impl Into<String>) {
        let at = self.began.elapsed();
        self.events().push((event.into(), at));
    }

    /// Returns all events so far.
    pub fn all(&self) -> Vec<String> {
        self.events()
            .iter()
            .map(|(event, _)| event.clone())
            .collect()
    }

    /// Removes and returns all events so far.
    pub fn take(&self) -> Vec<String> {
        self.events().drain(..).map(|(event, _)| event).collect()
    }

    /// Returns the time of the first event with this text, counted from the creation of the trace.
    ///
    /// # Panics
    ///
    /// If the event was not recorded.
    pub fn when(&self, event: &str) -> Duration {
        let events = self.events();
        let found = events.iter().find(|(this, _)| this == event);
        found
            .unwrap_or_else(|| panic!("no `{event}` in {events:?}"))
            .1
    }

    /// Returns how many events with this text were recorded.
    pub fn count(&self, event: &str) -> usize {
        self.events()
            .iter()
            .filter(|(this, _)| this == event)
            .count()
    }

    fn events(&self) -> MutexGuard<'_, Vec<(String, Duration)>> {
        // The lock may be poisoned, since a probe may have panicked on purpose.
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

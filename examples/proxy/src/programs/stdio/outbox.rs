//! What a session's program says without being asked, for the client to hear.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sse_stream::Sse;

use super::message::Call;
use crate::streams::feed::hub::{Event, Hub};
use crate::streams::feed::listener::Listener;

/// Messages that may wait for a client, and that are kept for one that comes
/// again.
const QUEUE: NonZeroUsize = const { NonZeroUsize::new(64).unwrap() };

/// The notifications of a session, as a stream of events.
#[derive(Debug)]
pub struct Outbox {
    hub: Arc<Hub>,
    beat: Duration,
    said: AtomicU64,
}

impl Outbox {
    /// Empty. Who listens is sent something at least every `beat`.
    #[must_use]
    pub fn new(beat: Duration) -> Self {
        Self {
            hub: Arc::new(Hub::new(QUEUE, QUEUE.get())),
            beat,
            said: AtomicU64::new(0),
        }
    }

    /// Hands a line on, if it is a notification; nobody could answer a request.
    pub fn say(&self, line: &str) {
        if !Call::read(line.as_bytes()).is_ok_and(|call| call.is_notification()) {
            return;
        }
        let id = (self.said.fetch_add(1, Ordering::Relaxed) + 1).to_string();
        if let Ok(bytes) = Sse::default().id(id.clone()).data(line).encode() {
            let id = Some(id);
            self.hub.publish(Event { id, bytes });
        }
    }

    /// A stream of what is said, from after the event that `last` is the id of.
    /// None after the end of the session.
    #[must_use]
    pub fn listen(&self, last: Option<&str>) -> Option<Listener> {
        let events = self.hub.subscribe(last)?;
        Some(Listener::new(events, self.beat))
    }

    /// Whether somebody listens.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        self.hub.counts().listeners > 0
    }

    /// Ends the streams.
    pub fn close(&self) {
        self.hub.end();
    }
}

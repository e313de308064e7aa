//! Notifications that a session's program sends without a request. Clients get them as a stream of
//! events.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lifecycle_proxy_feeds::broadcast::{Broadcast, Event};
use lifecycle_proxy_feeds::listener::Listener;
use sse_stream::Sse;

use super::message::Call;

/// The number of notifications that may wait for a client. As many past notifications are kept for
/// clients that reconnect.
const QUEUE: NonZeroUsize = const { NonZeroUsize::new(64).unwrap() };

/// The notifications of one session.
#[derive(Debug)]
pub struct Outbox {
    broadcast: Arc<Broadcast>,
    heartbeat: Duration,
    published: AtomicU64,
}

impl Outbox {
    /// Creates an empty outbox. Its streams send a comment when no notification came for
    /// `heartbeat`.
    #[must_use]
    pub fn new(heartbeat: Duration) -> Self {
        Self {
            broadcast: Arc::new(Broadcast::new(QUEUE, QUEUE.get())),
            heartbeat,
            published: AtomicU64::new(0),
        }
    }

    /// Publishes a line if it is a notification. Drops requests of the program, since no client
    /// could answer them.
    pub fn publish(&self, line: &str) {
        if !Call::read(line.as_bytes()).is_ok_and(|call| call.is_notification()) {
            return;
        }
        let id = (self.published.fetch_add(1, Ordering::Relaxed) + 1).to_string();
        if let Ok(bytes) = Sse::default().id(id.clone()).data(line).encode() {
            let id = Some(id);
            self.broadcast.publish(Event { id, bytes });
        }
    }

    /// Returns a stream of the notifications after the notification with the id `last`. Returns
    /// `None` after the end of the session.
    #[must_use]
    pub fn listen(&self, last: Option<&str>) -> Option<Listener> {
        let events = self.broadcast.subscribe(last)?;
        Some(Listener::new(events, self.heartbeat))
    }

    /// Returns whether at least one client listens to the notifications.
    #[must_use]
    pub fn has_listeners(&self) -> bool {
        self.broadcast.counts().listeners > 0
    }

    /// Ends the streams of all clients.
    pub fn close(&self) {
        self.broadcast.end();
    }
}

//! Hands every event to all who listen, and waits for none of them.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::mpsc::{self, error::TrySendError};

/// An event, as it is sent.
#[derive(Clone, Debug)]
pub struct Event {
    /// What a client that has seen it calls the last one. Empty takes that back.
    pub id: Option<String>,
    /// The whole block.
    pub bytes: Bytes,
}

/// Who listens, and what was said last.
#[derive(Debug)]
pub struct Hub {
    queue: usize,
    replay: usize,
    inside: Mutex<Inside>,
    events: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Inside {
    listeners: BTreeMap<u64, mpsc::Sender<Bytes>>,
    next: u64,
    kept: VecDeque<Event>,
    ended: bool,
}

/// Numbers about a hub.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Clients that listen.
    pub listeners: usize,
    /// Events that were handed on.
    pub events: u64,
    /// Clients that fell too far behind.
    pub dropped: u64,
}

impl Hub {
    /// So many events may wait for each, and so many are kept for those who come
    /// again.
    #[must_use]
    pub fn new(queue: NonZeroUsize, replay: usize) -> Self {
        Self {
            queue: queue.get(),
            replay,
            inside: Mutex::default(),
            events: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    /// Hands an event to all. One who has no room for it is let go: their stream
    /// ends after what waits for them already.
    pub fn publish(&self, event: Event) {
        self.events.fetch_add(1, Ordering::Relaxed);
        let mut inside = self.lock();
        inside
            .listeners
            .retain(|_, listener| match listener.try_send(event.bytes.clone()) {
                Ok(()) => true,
                Err(TrySendError::Closed(_)) => false,
                Err(TrySendError::Full(_)) => {
                    self.dropped.fetch_add(1, Ordering::Relaxed);
                    false
                }
            });
        inside.kept.push_back(event);
        while inside.kept.len() > self.replay {
            inside.kept.pop_front();
        }
    }

    /// There is nothing more to come: ends all streams, and begins no other.
    pub fn end(&self) {
        let mut inside = self.lock();
        inside.ended = true;
        inside.listeners.clear();
        inside.kept.clear();
    }

    fn has_ended(&self) -> bool {
        self.lock().ended
    }

    /// All events from now on, or from after the event that `last` is the id of: if
    /// that is not kept any more, from the first one that is. None once there is
    /// nothing more to come.
    #[must_use]
    pub fn subscribe(self: &Arc<Self>, last: Option<&str>) -> Option<Subscription> {
        let (sender, live) = mpsc::channel(self.queue);
        // Under one lock, so that no event is between the two.
        let mut inside = self.lock();
        if inside.ended {
            return None;
        }
        let missed = last.map_or_else(VecDeque::new, |last| inside.after(last));
        let number = inside.next;
        inside.next += 1;
        inside.listeners.insert(number, sender);
        drop(inside);
        Some(Subscription {
            hub: self.clone(),
            number,
            missed,
            live,
        })
    }

    fn leave(&self, number: u64) {
        self.lock().listeners.remove(&number);
    }

    /// The numbers now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            listeners: self.lock().listeners.len(),
            events: self.events.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    fn after(&self, last: &str) -> VecDeque<Bytes> {
        let seen = self
            .kept
            .iter()
            .rposition(|event| event.id.as_deref() == Some(last));
        let first = seen.map_or(0, |seen| seen + 1);
        let missed = self.kept.iter().skip(first);
        missed.map(|event| event.bytes.clone()).collect()
    }
}

/// The events for one client. Dropping it is to leave.
#[derive(Debug)]
pub struct Subscription {
    hub: Arc<Hub>,
    number: u64,
    missed: VecDeque<Bytes>,
    live: mpsc::Receiver<Bytes>,
}

impl Subscription {
    /// The next event. None after the last one.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        match self.missed.pop_front() {
            Some(event) => Poll::Ready(Some(event)),
            None => self.live.poll_recv(cx),
        }
    }

    /// Returns whether the hub goes on, so that a subscription that has ended was
    /// let go for being slow.
    #[must_use]
    pub fn can_resume(&self) -> bool {
        !self.hub.has_ended()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.leave(self.number);
    }
}

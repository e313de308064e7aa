//! A broadcast of events to all subscribers. The broadcast never waits for a slow subscriber.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::mpsc::{self, error::TrySendError};

/// An event, encoded for its subscribers.
#[derive(Clone, Debug)]
pub struct Event {
    /// The event's id, which clients send as `Last-Event-ID` when they reconnect. An empty id makes
    /// a client forget the last id.
    pub id: Option<String>,
    /// The whole event in its encoded form.
    pub bytes: Bytes,
}

/// The subscribers, and the most recent events.
#[derive(Debug)]
pub struct Broadcast {
    queue: usize,
    replay: usize,
    inner: Mutex<Inner>,
    events: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    listeners: BTreeMap<u64, mpsc::Sender<Bytes>>,
    next: u64,
    recent: VecDeque<Event>,
    ended: bool,
}

/// The counters of a broadcast.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// The number of clients that listen now.
    pub listeners: usize,
    /// The number of events that were published.
    pub events: u64,
    /// The number of clients that were disconnected because they fell too far behind.
    pub dropped: u64,
}

impl Broadcast {
    /// Creates a broadcast. Up to `queue` events may wait for each subscriber. The last `replay`
    /// events are kept for clients that reconnect.
    #[must_use]
    pub fn new(queue: NonZeroUsize, replay: usize) -> Self {
        Self {
            queue: queue.get(),
            replay,
            inner: Mutex::default(),
            events: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    /// Sends an event to all subscribers. Removes a subscriber whose queue is full. The stream of
    /// that subscriber ends after the events in its queue.
    pub fn publish(&self, event: Event) {
        self.events.fetch_add(1, Ordering::Relaxed);
        let mut inner = self.lock();
        inner
            .listeners
            .retain(|_, listener| match listener.try_send(event.bytes.clone()) {
                Ok(()) => true,
                Err(TrySendError::Closed(_)) => false,
                Err(TrySendError::Full(_)) => {
                    self.dropped.fetch_add(1, Ordering::Relaxed);
                    false
                }
            });
        inner.recent.push_back(event);
        while inner.recent.len() > self.replay {
            inner.recent.pop_front();
        }
    }

    /// Ends the streams of all subscribers, and refuses new subscriptions from now on.
    pub fn end(&self) {
        let mut inner = self.lock();
        inner.ended = true;
        inner.listeners.clear();
        inner.recent.clear();
    }

    fn has_ended(&self) -> bool {
        self.lock().ended
    }

    /// Subscribes to the events after the event with the id `last`, or to all future events if
    /// there is no `last`. If that event is not kept any more, the subscription begins with the
    /// oldest event that is kept. Returns `None` after the end of the broadcast.
    #[must_use]
    pub fn subscribe(self: &Arc<Self>, last: Option<&str>) -> Option<Subscription> {
        let (sender, live) = mpsc::channel(self.queue);
        // Reads the kept events and adds the subscriber under one lock, so that no event is lost in
        // between.
        let mut inner = self.lock();
        if inner.ended {
            return None;
        }
        let missed = last.map_or_else(VecDeque::new, |last| inner.after(last));
        let number = inner.next;
        inner.next += 1;
        inner.listeners.insert(number, sender);
        drop(inner);
        Some(Subscription {
            broadcast: self.clone(),
            number,
            missed,
            live,
        })
    }

    fn leave(&self, number: u64) {
        self.lock().listeners.remove(&number);
    }

    /// Returns the current numbers of the broadcast.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            listeners: self.lock().listeners.len(),
            events: self.events.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn after(&self, last: &str) -> VecDeque<Bytes> {
        let seen = self
            .recent
            .iter()
            .rposition(|event| event.id.as_deref() == Some(last));
        let first = seen.map_or(0, |seen| seen + 1);
        let missed = self.recent.iter().skip(first);
        missed.map(|event| event.bytes.clone()).collect()
    }
}

/// The stream of events for one client. Dropping it ends the client's subscription.
#[derive(Debug)]
pub struct Subscription {
    broadcast: Arc<Broadcast>,
    number: u64,
    missed: VecDeque<Bytes>,
    live: mpsc::Receiver<Bytes>,
}

impl Subscription {
    /// Returns the next event. Returns `None` after the last event of an ended subscription.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        match self.missed.pop_front() {
            Some(event) => Poll::Ready(Some(event)),
            None => self.live.poll_recv(cx),
        }
    }

    /// Returns whether the broadcast has not ended. A subscription that ends before the broadcast
    /// was removed for being slow, and its client can subscribe again.
    #[must_use]
    pub fn can_resume(&self) -> bool {
        !self.broadcast.has_ended()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.broadcast.leave(self.number);
    }
}

//! Hands every event to all who listen, and waits for none of them.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::{self, error::TrySendError};

use super::listener::Listener;

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

    /// Whether [`end`](Self::end) was called.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.lock().ended
    }

    /// A stream of all events from now on, or from after the event that `last`
    /// is the id of: if that is not kept any more, from the first one that is.
    /// It says something at least every `beat`. None once there is nothing more
    /// to come.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[must_use]
    pub fn listen(self: &Arc<Self>, last: Option<&str>, beat: Duration) -> Option<Listener> {
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
        Some(Listener::new(self.clone(), number, missed, live, beat))
    }

    pub(super) fn leave(&self, number: u64) {
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

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use http_body_util::BodyExt as _;

    use super::*;

    const BEAT: Duration = Duration::from_secs(15);

    fn hub(queue: usize, replay: usize) -> Arc<Hub> {
        Arc::new(Hub::new(NonZeroUsize::new(queue).unwrap(), replay))
    }

    fn publish(hub: &Hub, numbers: std::ops::Range<u32>) {
        for number in numbers {
            hub.publish(Event {
                id: Some(number.to_string()),
                bytes: format!("{number} ").into(),
            });
        }
    }

    /// What the listener is sent without waiting, and whether that is all.
    fn heard(listener: &mut Listener) -> (String, bool) {
        let mut text = String::new();
        while let Some(frame) = listener.frame().now_or_never() {
            match frame {
                Some(Ok(frame)) => {
                    text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
                }
                _ => return (text, true),
            }
        }
        (text, false)
    }

    #[tokio::test(start_paused = true)]
    async fn all_hear_every_event_from_when_they_came() {
        let hub = hub(8, 0);
        let mut early = hub.listen(None, BEAT).unwrap();
        publish(&hub, 1..3);
        let mut late = hub.listen(None, BEAT).unwrap();
        publish(&hub, 3..4);
        assert_eq!(heard(&mut early), (":\n\n1 2 3 ".into(), false));
        assert_eq!(heard(&mut late), (":\n\n3 ".into(), false));
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_is_slow_is_let_go_after_what_waits_and_the_others_miss_nothing() {
        let hub = hub(2, 0);
        let mut slow = hub.listen(None, BEAT).unwrap();
        let mut quick = hub.listen(None, BEAT).unwrap();
        let mut all = String::new();
        for number in 1..6 {
            publish(&hub, number..number + 1);
            all += &heard(&mut quick).0;
        }
        assert_eq!(all, ":\n\n1 2 3 4 5 ");
        let counts = hub.counts();
        assert_eq!((counts.listeners, counts.dropped, counts.events), (1, 1, 5));
        let (rest, ended) = heard(&mut slow);
        assert!(rest.starts_with(":\n\n1 2 retry: "), "{rest}");
        assert!(ended);
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_comes_again_hears_what_was_missed_as_far_as_it_is_kept() {
        let hub = hub(8, 3);
        publish(&hub, 1..6);
        for (last, missed) in [
            (Some("4"), "5 "),
            (Some("5"), ""),
            (Some("1"), "3 4 5 "),
            (Some("other"), "3 4 5 "),
            (None, ""),
        ] {
            let mut listener = hub.listen(last, BEAT).unwrap();
            let text = heard(&mut listener).0;
            assert_eq!(text.replace(":\n\n", ""), missed, "{last:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_leaves_is_forgotten_without_an_event() {
        let hub = hub(1, 0);
        let listeners: Vec<_> = (0..10).map(|_| hub.listen(None, BEAT)).collect();
        assert_eq!(hub.counts().listeners, 10);
        drop(listeners);
        assert_eq!(hub.counts(), Counts::default());
    }

    #[tokio::test(start_paused = true)]
    async fn after_the_end_there_is_no_stream() {
        let hub = hub(8, 8);
        let mut listener = hub.listen(None, BEAT).unwrap();
        publish(&hub, 1..2);
        hub.end();
        assert_eq!(heard(&mut listener), (":\n\n1 ".into(), true));
        assert!(hub.listen(Some("1"), BEAT).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_broken_by_a_comment() {
        let hub = hub(8, 0);
        let mut listener = hub.listen(None, BEAT).unwrap();
        assert_eq!(heard(&mut listener).0, ":\n\n");
        tokio::time::advance(BEAT - Duration::from_secs(1)).await;
        publish(&hub, 1..2);
        assert_eq!(heard(&mut listener).0, "1 ");
        tokio::time::advance(BEAT - Duration::from_secs(1)).await;
        assert_eq!(heard(&mut listener).0, "", "not so soon after an event");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(heard(&mut listener).0, ":\n\n");
    }
}

//! The state of one connection. By it, `drive.rs` decides when a limit is exceeded and how the connection is drained.

mod description;
mod requests;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use http::{Method, Uri};
use tokio::time::Instant;

use self::requests::Requests;
use crate::Limits;
use crate::interim::Interim;
use crate::socket::SharedSocket;

/// The number of given-up requests at which an h2 client is asked to close. A request counts if the client gave it up
/// before its response began; each response that begins takes one off the count.
pub(crate) const MOST_ABANDONED: usize = 100;

/// The number of written bytes after which an h2 client counts as taking its responses. Pings are fewer bytes.
const PROGRESS: u64 = 1024;

/// The number of bytes that may stay in the buffers of kernels for longer than a round trip. An h2 client that was sent
/// as many gets more time to close.
const BULK: u64 = 64 * 1024;

/// The clock and the counts of one connection. Its stream, its exchanges and its bodies update them, and its task reads
/// them.
///
/// Times are nanoseconds since the connection was opened. Orderings are relaxed, because each value only serves a time
/// limit or a choice of how to close. A value is changed before the connection's task is woken to read it.
///
/// The fields that every HTTP/1.1 request uses come first and in this order, so that they share few cache lines.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Activity {
    h2: AtomicBool,
    /// Whether a request's body was not read to its end, so that the client may still send it.
    unread: AtomicBool,
    /// Whether a request was upgraded. The bytes inside an upgrade are not looked at.
    tunnel: AtomicBool,
    exchanges: AtomicU32,
    /// The number of requests whose response has not begun.
    unanswered: AtomicU32,
    /// The time at which the first byte of the request head arrived that is being read; 0 if no head is being read.
    head: AtomicU64,
    /// The time at which the client last sent bytes.
    heard: AtomicU64,
    /// The time at which the kernel last took bytes for the client.
    wrote: AtomicU64,
    /// The number of requests that have begun, over HTTP/1.1 only.
    begun: AtomicU64,
    /// The number of the first request whose length is ambiguous, counted from 0; `u64::MAX` if there is none.
    ambiguous: AtomicU64,
    opened: Instant,
    pub(crate) wire: SharedSocket,
    /// The interim responses that wait to be written to the client, over HTTP/1.1.
    pub(crate) interim: Interim,
    /// The requests in flight, and over HTTP/1.1 also the last one that has ended.
    requests: Requests,
    /// The time at which the last h2 exchange ended.
    ended: AtomicU64,
    /// The number of bytes that the kernel took since `moved` was last set, over h2.
    taken: AtomicU64,
    /// The time at which bytes of an h2 body last moved.
    moved: AtomicU64,
    /// The time at which an h2 client was last sent `BULK` bytes in all; 0 if it never was.
    bulk: AtomicU64,
    /// The number of bytes that an h2 client was sent since `bulk` was set.
    sent: AtomicU64,
    /// The number of h2 response bodies that wait for the client to take the bytes it was sent.
    owing: AtomicUsize,
    /// The number of h2 requests that the client gave up before their response began, less the responses that began
    /// since.
    abandoned: AtomicUsize,
    /// The highest value that `abandoned` has reached, divided by `MOST_ABANDONED`.
    given_up: AtomicUsize,
    /// The task of the connection, which is woken when the client has given up too many requests.
    task: Mutex<Option<Waker>>,
}

/// A snapshot of an [`Activity`]. Times are since the connection was opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) now: Duration,
    pub(crate) head: Option<Duration>,
    /// The time at which the last exchange ended. Over HTTP/1.1 this is when the last byte of its response was written.
    pub(crate) quiet: Duration,
    pub(crate) wrote: Duration,
    pub(crate) moved: Duration,
    pub(crate) bulk: Option<Duration>,
    pub(crate) exchanges: u32,
    pub(crate) owing: usize,
    pub(crate) tunnel: bool,
    /// The time at which the last byte passed, in either direction.
    pub(crate) last: Duration,
    /// Whether the service has a whole request, and has not begun to answer it.
    pub(crate) awaits_service: bool,
    /// The number of times that the client has given up `MOST_ABANDONED` requests.
    pub(crate) given_up: usize,
}

impl Activity {
    pub(crate) fn new(wire: SharedSocket) -> Self {
        Self {
            h2: AtomicBool::new(false),
            unread: AtomicBool::new(false),
            tunnel: AtomicBool::new(false),
            exchanges: AtomicU32::new(0),
            unanswered: AtomicU32::new(0),
            head: AtomicU64::new(0),
            heard: AtomicU64::new(0),
            wrote: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            ambiguous: AtomicU64::new(u64::MAX),
            opened: Instant::now(),
            wire,
            interim: Interim::default(),
            requests: Requests::default(),
            ended: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            moved: AtomicU64::new(0),
            bulk: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            owing: AtomicUsize::new(0),
            abandoned: AtomicUsize::new(0),
            given_up: AtomicUsize::new(0),
            task: Mutex::default(),
        }
    }

    pub(crate) fn opened(&self) -> Instant {
        self.opened
    }

    /// Records that the client speaks HTTP/2.
    #[cfg(feature = "h2")]
    pub(crate) fn speaks_h2(&self) {
        self.h2.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_h2(&self) -> bool {
        self.h2.load(Ordering::Relaxed)
    }

    /// Records that bytes of HTTP arrived.
    pub(crate) fn bytes_arrived(&self) {
        let now = self.elapsed();
        self.heard.store(now, Ordering::Relaxed);
        if !self.is_in_exchange() && self.head.load(Ordering::Relaxed) == 0 && !self.is_h2() {
            self.head.store(now.max(1), Ordering::Relaxed);
        }
    }

    /// Returns when the last byte passed, in either direction. Returns the time of the call if no byte has passed.
    pub(crate) fn last_byte(&self) -> Instant {
        let last = self.last();
        if last.is_zero() {
            Instant::now()
        } else {
            self.opened + last
        }
    }

    fn last(&self) -> Duration {
        let heard = self.heard.load(Ordering::Relaxed);
        Duration::from_nanos(heard.max(self.wrote.load(Ordering::Relaxed)))
    }

    /// Records the number of the first request whose length is ambiguous, counted from 0.
    pub(crate) fn found_ambiguous(&self, number: u64) {
        self.ambiguous.store(number, Ordering::Relaxed);
    }

    /// Counts an HTTP/1.1 request, and returns whether its length or that of an earlier request is ambiguous.
    pub(crate) fn is_ambiguous(&self) -> bool {
        let number = self.begun.load(Ordering::Relaxed);
        self.begun.store(number + 1, Ordering::Relaxed);
        number >= self.ambiguous.load(Ordering::Relaxed)
    }

    pub(crate) fn is_tunnel(&self) -> bool {
        self.tunnel.load(Ordering::Relaxed)
    }

    pub(crate) fn wrote(&self, bytes: usize) {
        self.wrote.store(self.elapsed(), Ordering::Relaxed);
        if self.is_h2() {
            let before = self.taken.fetch_add(bytes as u64, Ordering::Relaxed);
            if before + bytes as u64 >= PROGRESS {
                self.moved();
            }
            let before = self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
            if before + bytes as u64 >= BULK {
                self.sent.store(0, Ordering::Relaxed);
                self.bulk.store(self.elapsed().max(1), Ordering::Relaxed);
            }
        }
    }

    /// Records that bytes of an h2 body moved.
    pub(crate) fn moved(&self) {
        self.taken.store(0, Ordering::Relaxed);
        self.moved.store(self.elapsed(), Ordering::Relaxed);
    }

    pub(crate) fn unread(&self, unread: bool) {
        self.unread.store(unread, Ordering::Relaxed);
    }

    /// Returns how long the server waits for the client to close, once all responses are written. `None` if there is no
    /// need to wait, because the client has its responses and has nothing left to send.
    ///
    /// An h2 client sends bytes while it reads, at least window updates. If they reach a closed socket, the connection
    /// is reset, and the bytes are lost that the kernel still holds for the client.
    pub(crate) fn lingers(&self, limits: &Limits) -> Option<Duration> {
        let unread = self.unread.load(Ordering::Relaxed);
        if !self.is_h2() {
            return unread.then_some(limits.linger);
        }
        let seen = self.seen();
        if seen.bulk.is_some_and(|bulk| seen.now < bulk + limits.stall) {
            return Some(limits.stall);
        }
        let answered = seen.now < seen.quiet + limits.linger;
        (unread || answered).then_some(limits.linger)
    }

    /// Records that a request's head is complete, and returns the request's number. Over HTTP/1.1, where there is one
    /// request at a time, the number is 0.
    pub(crate) fn begins(&self, method: &Method, uri: &Uri) -> usize {
        let number = if self.is_h2() {
            self.moved();
            let at = Duration::from_nanos(self.moved.load(Ordering::Relaxed));
            self.requests.add(method, uri, at)
        } else {
            self.interim.clear();
            // Over HTTP/1.1 a head is complete when its last byte arrives, or when the response before it is written.
            self.requests.replace(method, uri, self.last());
            0
        };
        self.increment(&self.exchanges);
        self.increment(&self.unanswered);
        self.head.store(0, Ordering::Relaxed);
        number
    }

    /// Returns whether a request over HTTP/1.1 waits for its response, so that an interim response can be written.
    pub(crate) fn takes_interim(&self) -> bool {
        !self.is_h2() && self.unanswered.load(Ordering::Relaxed) > 0
    }

    /// Returns whether the connection speaks HTTP/1.1 and was not upgraded, so that interim responses can be written
    /// between two responses.
    pub(crate) fn is_between(&self) -> bool {
        !self.is_h2() && !self.is_tunnel()
    }

    /// Returns whether an HTTP/1.1 request is in flight. Over HTTP/2 it always returns `true`.
    pub(crate) fn is_answering(&self) -> bool {
        self.is_h2() || self.is_in_exchange()
    }

    /// Returns whether a request is in flight.
    pub(crate) fn is_in_exchange(&self) -> bool {
        self.exchanges.load(Ordering::Relaxed) > 0
    }

    /// Records that the response to a request begins.
    pub(crate) fn answers(&self) {
        self.decrement(&self.unanswered);
        if self.is_h2() {
            let fewer = |abandoned: usize| abandoned.checked_sub(1);
            // The update fails if the count is 0, since there is nothing to take off then.
            let _ = self
                .abandoned
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer);
        }
    }

    /// Records that a request will not be answered. Over h2, this means that the client gave the request up.
    pub(crate) fn abandons(&self) {
        self.decrement(&self.unanswered);
        if !self.is_h2() {
            // Over HTTP/1.1 a client gives up a request by closing the connection, so there is nothing to count.
            return;
        }
        let abandoned = self.abandoned.fetch_add(1, Ordering::Relaxed) + 1;
        let times = abandoned / MOST_ABANDONED;
        if self.given_up.fetch_max(times, Ordering::Relaxed) < times {
            // The lock of `task` is released before the wake, since a waker may run the task at once.
            let task = self.task().take();
            if let Some(task) = task {
                task.wake();
            }
        }
    }

    /// Keeps `task`, which is woken when the client has given up too many requests.
    pub(crate) fn wakes(&self, task: &Waker) {
        *self.task() = Some(task.clone());
    }

    fn task(&self) -> MutexGuard<'_, Option<Waker>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that a request has ended: neither the service nor the client works on it any more. An upgraded request
    /// stays in the list, so that the description of the connection still names it.
    pub(crate) fn ends(&self, number: usize, upgraded: bool) {
        if upgraded {
            self.tunnel.store(true, Ordering::Relaxed);
        }
        if self.is_h2() {
            if !upgraded {
                self.requests.remove(number);
            }
            self.ended.store(self.elapsed(), Ordering::Relaxed);
        }
        self.decrement(&self.exchanges);
    }

    /// Records that a response's body has begun to wait for the client to take bytes (`true`), or has stopped to wait
    /// (`false`).
    pub(crate) fn owes(&self, owes: bool) {
        if owes {
            self.owing.fetch_add(1, Ordering::Relaxed);
        } else {
            self.owing.fetch_sub(1, Ordering::Relaxed);
        }
        self.moved();
    }

    /// Returns whether nothing limits the time of an HTTP/1.1 connection that was not told to close: it is idle, or its
    /// service is waited for. This is the usual case, and is found without a reading of the clock.
    pub(crate) fn is_unlimited(&self) -> bool {
        let is = |of: &AtomicBool| of.load(Ordering::Relaxed);
        if is(&self.h2) {
            return false;
        }
        if !self.is_in_exchange() {
            return self.head.load(Ordering::Relaxed) == 0;
        }
        is(&self.tunnel) || (self.unanswered.load(Ordering::Relaxed) > 0 && !is(&self.unread))
    }

    pub(crate) fn seen(&self) -> Seen {
        let at = |of: &AtomicU64| Duration::from_nanos(of.load(Ordering::Relaxed));
        let if_ever = |of: &AtomicU64| Some(at(of)).filter(|at| !at.is_zero());
        Seen {
            now: self.opened.elapsed(),
            head: if_ever(&self.head),
            quiet: if self.is_h2() {
                at(&self.ended)
            } else {
                self.last()
            },
            wrote: at(&self.wrote),
            moved: at(&self.moved),
            bulk: if_ever(&self.bulk),
            exchanges: self.exchanges.load(Ordering::Relaxed),
            owing: self.owing.load(Ordering::Relaxed),
            tunnel: self.tunnel.load(Ordering::Relaxed),
            last: self.last(),
            awaits_service: self.unanswered.load(Ordering::Relaxed) > 0
                && (self.is_h2() || !self.unread.load(Ordering::Relaxed)),
            given_up: self.given_up.load(Ordering::Relaxed),
        }
    }

    /// Adds one to `count`. Over HTTP/1.1 only the connection's task changes the counts, so it needs no atomic addition.
    fn increment(&self, count: &AtomicU32) {
        if self.is_h2() {
            count.fetch_add(1, Ordering::Relaxed);
        } else {
            count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
    }

    /// Takes one off `count`, as [`increment`](Self::increment) adds it.
    fn decrement(&self, count: &AtomicU32) {
        if self.is_h2() {
            count.fetch_sub(1, Ordering::Relaxed);
        } else {
            count.store(count.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
        }
    }

    /// Returns the nanoseconds since the connection was opened.
    fn elapsed(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests;

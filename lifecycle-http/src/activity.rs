//! The state of one connection, by which its limits and its drain are decided.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use http::{Method, Uri};
use tokio::time::Instant;

use crate::Limits;
use crate::interim::Interim;
use crate::socket::SharedSocket;

/// How many requests of a connection are named.
const NAMED: usize = 2;

/// The longest path that is shown whole.
const SHOWN: usize = 120;

/// How many requests an h2 client may give up before their answer begins, beyond those that it waits for.
pub(crate) const MOST_ABANDONED: usize = 100;

/// The number of bytes by which an h2 client shows that it takes its responses. Pings are fewer.
const PROGRESS: u64 = 1024;

/// From this many bytes on, they may be in the buffers of kernels for longer than a round trip.
const BULK: u64 = 64 * 1024;

/// The clock and the counts of one connection, kept by its stream, its exchanges and its bodies, and read by its task.
///
/// Orderings are relaxed: each value is for a time limit or a choice of how to close, and whoever changes one does so
/// before the task of the connection is woken.
#[derive(Debug)]
pub(crate) struct Activity {
    pub(crate) wire: SharedSocket,
    opened: Instant,
    h2: AtomicBool,
    /// When the first byte of the head that is being read arrived; 0 if none has.
    head: AtomicU64,
    /// When the last exchange ended.
    quiet: AtomicU64,
    /// When the client last sent bytes.
    heard: AtomicU64,
    /// When the kernel last took bytes for the client, and how many since h2 bodies last moved.
    wrote: AtomicU64,
    taken: AtomicU64,
    /// When an h2 body last moved.
    moved: AtomicU64,
    /// When an h2 client had last been sent much, 0 if never, and how many bytes since then.
    bulk: AtomicU64,
    sent: AtomicU64,
    exchanges: AtomicUsize,
    /// h2 response bodies that wait for the client to take what it was sent.
    owing: AtomicUsize,
    /// Requests whose answer has not begun.
    unanswered: AtomicUsize,
    /// h2 requests that the client gave up before their answer began, less those that were answered since; and how many
    /// times over that was too many, at most.
    abandoned: AtomicUsize,
    given_up: AtomicUsize,
    /// The task of the connection, to be woken when the client gave up too many.
    task: Mutex<Option<Waker>>,
    /// A request's body was not read to its end.
    unread: AtomicBool,
    /// A stream was upgraded: what goes on on it is not seen.
    tunnel: AtomicBool,
    /// How many requests have begun, and the first of them whose length is ambiguous; over HTTP/1.1 only.
    begun: AtomicU64,
    ambiguous: AtomicU64,
    requests: Mutex<Vec<Request>>,
    /// Interim responses that wait for the client, over HTTP/1.1.
    pub(crate) interim: Interim,
}

#[derive(Debug)]
struct Request {
    method: Method,
    uri: Uri,
    /// Its number.
    number: usize,
    /// When its head was complete.
    at: Duration,
}

/// A snapshot of an [`Activity`]. Times are since the connection was opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) now: Duration,
    pub(crate) head: Option<Duration>,
    pub(crate) quiet: Duration,
    pub(crate) wrote: Duration,
    pub(crate) moved: Duration,
    pub(crate) bulk: Option<Duration>,
    pub(crate) exchanges: usize,
    pub(crate) owing: usize,
    pub(crate) tunnel: bool,
    /// The last byte, in either direction.
    pub(crate) last: Duration,
    /// The service has a whole request, and has not begun to answer.
    pub(crate) awaits_service: bool,
    /// How many times over the client gave up too many requests.
    pub(crate) given_up: usize,
}

impl Activity {
    pub(crate) fn new(wire: SharedSocket) -> Self {
        Self {
            wire,
            opened: Instant::now(),
            h2: AtomicBool::new(false),
            head: AtomicU64::new(0),
            quiet: AtomicU64::new(0),
            heard: AtomicU64::new(0),
            wrote: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            moved: AtomicU64::new(0),
            bulk: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            exchanges: AtomicUsize::new(0),
            owing: AtomicUsize::new(0),
            unanswered: AtomicUsize::new(0),
            abandoned: AtomicUsize::new(0),
            given_up: AtomicUsize::new(0),
            task: Mutex::default(),
            unread: AtomicBool::new(false),
            tunnel: AtomicBool::new(false),
            begun: AtomicU64::new(0),
            ambiguous: AtomicU64::new(u64::MAX),
            requests: Mutex::default(),
            interim: Interim::default(),
        }
    }

    pub(crate) fn opened(&self) -> Instant {
        self.opened
    }

    /// HTTP/2 is spoken.
    #[cfg(feature = "h2")]
    pub(crate) fn speaks_h2(&self) {
        self.h2.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_h2(&self) -> bool {
        self.h2.load(Ordering::Relaxed)
    }

    /// Bytes of HTTP arrived.
    pub(crate) fn bytes_arrived(&self) {
        let now = self.elapsed();
        self.heard.store(now, Ordering::Relaxed);
        let between = self.exchanges.load(Ordering::Relaxed) == 0;
        if between && self.head.load(Ordering::Relaxed) == 0 && !self.is_h2() {
            self.head.store(now.max(1), Ordering::Relaxed);
        }
    }

    /// Returns when the last byte passed, in either direction.
    pub(crate) fn last_byte(&self) -> Instant {
        self.opened + self.last()
    }

    fn last(&self) -> Duration {
        let heard = self.heard.load(Ordering::Relaxed);
        Duration::from_millis(heard.max(self.wrote.load(Ordering::Relaxed)))
    }

    /// The request with this number, counted from 0, is one whose length is ambiguous.
    pub(crate) fn found_ambiguous(&self, number: u64) {
        self.ambiguous.store(number, Ordering::Relaxed);
    }

    /// Counts a request, and returns whether its length, or that of one before it, is ambiguous.
    pub(crate) fn is_ambiguous(&self) -> bool {
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
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

    /// A body of h2 moved.
    pub(crate) fn moved(&self) {
        self.taken.store(0, Ordering::Relaxed);
        self.moved.store(self.elapsed(), Ordering::Relaxed);
    }

    pub(crate) fn unread(&self, unread: bool) {
        self.unread.store(unread, Ordering::Relaxed);
    }

    /// How long a client has, once all is written, to take it and to close. `None`: it has it, and owes nothing.
    ///
    /// An h2 client goes on sending while it reads, window updates if nothing else, and what it sends to a closed socket
    /// resets the connection over what the kernel still has for it.
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

    /// A request's head is complete. Its number.
    pub(crate) fn begins(&self, method: &Method, uri: &Uri) -> usize {
        self.exchanges.fetch_add(1, Ordering::Relaxed);
        self.unanswered.fetch_add(1, Ordering::Relaxed);
        self.head.store(0, Ordering::Relaxed);
        self.moved();
        if !self.is_h2() {
            self.interim.clear();
        }
        let at = Duration::from_millis(self.moved.load(Ordering::Relaxed));
        let mut requests = self.requests();
        let number = requests
            .last()
            .map_or(0, |last| last.number.wrapping_add(1));
        requests.push(Request {
            method: method.clone(),
            uri: uri.clone(),
            number,
            at,
        });
        number
    }

    /// Whether a request over HTTP/1.1 waits for its answer, so that an interim response can be written.
    pub(crate) fn takes_interim(&self) -> bool {
        !self.is_h2() && self.unanswered.load(Ordering::Relaxed) > 0
    }

    /// Whether something may be written between two responses over HTTP/1.1.
    pub(crate) fn is_between(&self) -> bool {
        !self.is_h2() && !self.is_tunnel()
    }

    /// Whether a response over HTTP/1.1 is under way.
    pub(crate) fn is_answering(&self) -> bool {
        self.is_h2() || self.exchanges.load(Ordering::Relaxed) > 0
    }

    /// The answer to a request begins.
    pub(crate) fn answers(&self) {
        self.unanswered.fetch_sub(1, Ordering::Relaxed);
        if self.is_h2() {
            let fewer = |abandoned: usize| abandoned.checked_sub(1);
            // If there is none to forget, that is as good.
            let _ = self
                .abandoned
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer);
        }
    }

    /// A request will not be answered: over h2, since its client does not want that any more.
    pub(crate) fn abandons(&self) {
        self.unanswered.fetch_sub(1, Ordering::Relaxed);
        if !self.is_h2() {
            // Over HTTP/1.1 a client that gives up a request gives up the connection.
            return;
        }
        let abandoned = self.abandoned.fetch_add(1, Ordering::Relaxed) + 1;
        let times = abandoned / MOST_ABANDONED;
        if self.given_up.fetch_max(times, Ordering::Relaxed) < times {
            // The lock is released first, since a waker may run the task.
            let task = self.task().take();
            if let Some(task) = task {
                task.wake();
            }
        }
    }

    /// Keeps `task`, to wake it when the client gave up too many requests.
    pub(crate) fn wakes(&self, task: &Waker) {
        *self.task() = Some(task.clone());
    }

    fn task(&self) -> MutexGuard<'_, Option<Waker>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a request: neither the service nor the client works on it any more. The name of one that was upgraded stays.
    pub(crate) fn ends(&self, number: usize, upgraded: bool) {
        if upgraded {
            self.tunnel.store(true, Ordering::Relaxed);
        } else {
            let mut requests = self.requests();
            if let Some(at) = requests.iter().position(|request| request.number == number) {
                requests.remove(at);
            }
        }
        self.quiet.store(self.elapsed(), Ordering::Relaxed);
        self.exchanges.fetch_sub(1, Ordering::Relaxed);
    }

    /// A body waits for the client, or does no longer.
    pub(crate) fn owes(&self, owes: bool) {
        if owes {
            self.owing.fetch_add(1, Ordering::Relaxed);
        } else {
            self.owing.fetch_sub(1, Ordering::Relaxed);
        }
        self.moved();
    }

    pub(crate) fn seen(&self) -> Seen {
        let at = |of: &AtomicU64| Duration::from_millis(of.load(Ordering::Relaxed));
        let if_ever = |of: &AtomicU64| Some(at(of)).filter(|at| !at.is_zero());
        Seen {
            now: self.opened.elapsed(),
            head: if_ever(&self.head),
            quiet: at(&self.quiet),
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

    /// `GET /slow, waiting for the upstream for 1.5 s`, where `service` is "the upstream".
    pub(crate) fn doing(&self, service: &str) -> String {
        let seen = self.seen();
        let (stage, since) = match seen.head {
            Some(head) if seen.exchanges == 0 => ("reading a head", head),
            _ if seen.tunnel => ("upgraded, silent", seen.last),
            _ if seen.awaits_service => ("waiting for ", self.asked()),
            _ if self.is_h2() => ("silent", seen.last),
            _ if seen.exchanges == 0 => ("idle", seen.last),
            _ if self.unanswered.load(Ordering::Relaxed) > 0 => ("reading the body", self.asked()),
            _ => ("answering", self.asked()),
        };
        let service = if seen.awaits_service { service } else { "" };
        let mut text = self.names();
        let lead = if text.is_empty() { "" } else { ", " };
        let time = seen.now.saturating_sub(since).as_secs_f32();
        // Writing to a String cannot fail.
        let _ = write!(text, "{lead}{stage}{service} for {time:.1} s");
        text
    }

    /// When the last of the requests under way was asked.
    fn asked(&self) -> Duration {
        let requests = self.requests();
        requests.last().map_or(Duration::ZERO, |request| request.at)
    }

    /// `GET /slow, POST /upload and 3 more`
    pub(crate) fn names(&self) -> String {
        let requests = self.requests();
        let mut text = String::new();
        for request in requests.iter().take(NAMED) {
            let lead = if text.is_empty() { "" } else { ", " };
            // Without the query, which may hold secrets.
            let path = request.uri.path();
            let (shown, more) = match path.char_indices().nth(SHOWN) {
                Some((end, _)) => (&path[..end], "…"),
                None => (path, ""),
            };
            // Writing to a String cannot fail.
            let _ = write!(text, "{lead}{} {shown}{more}", request.method);
        }
        if requests.len() > NAMED {
            let _ = write!(text, " and {} more", requests.len() - NAMED);
        }
        text
    }

    fn requests(&self) -> MutexGuard<'_, Vec<Request>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests;

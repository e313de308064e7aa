//! What goes on on one connection: what its limits and its drain are decided by.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{Method, Uri};
use tokio::time::Instant;

use crate::Limits;
use crate::socket::SharedSocket;

/// How many requests of a connection are named.
const NAMED: usize = 2;

/// So many bytes to an h2 client are more than pings: it takes what it asked for.
const PROGRESS: u64 = 1024;

/// So many bytes may be in the buffers of kernels for longer than a round trip.
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
    /// A request's body was not read to its end.
    unread: AtomicBool,
    /// A stream was upgraded: what goes on on it is not seen.
    tunnel: AtomicBool,
    /// How many requests have begun, and the first of them whose length is ambiguous; over HTTP/1.1 only.
    begun: AtomicU64,
    ambiguous: AtomicU64,
    requests: Mutex<Vec<Request>>,
}

#[derive(Debug)]
struct Request {
    method: Method,
    uri: Uri,
    /// Its number.
    number: usize,
}

/// What is known at one moment. Times are since the connection was opened.
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
}

impl Activity {
    pub(crate) fn new(wire: SharedSocket) -> Self {
        Self {
            wire,
            opened: Instant::now(),
            h2: AtomicBool::new(false),
            head: AtomicU64::new(0),
            quiet: AtomicU64::new(0),
            wrote: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            moved: AtomicU64::new(0),
            bulk: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            exchanges: AtomicUsize::new(0),
            owing: AtomicUsize::new(0),
            unread: AtomicBool::new(false),
            tunnel: AtomicBool::new(false),
            begun: AtomicU64::new(0),
            ambiguous: AtomicU64::new(u64::MAX),
            requests: Mutex::default(),
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
        let between = self.exchanges.load(Ordering::Relaxed) == 0;
        if between && self.head.load(Ordering::Relaxed) == 0 && !self.is_h2() {
            self.head.store(self.elapsed().max(1), Ordering::Relaxed);
        }
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
        self.head.store(0, Ordering::Relaxed);
        self.moved();
        let mut requests = self.requests();
        let number = requests
            .last()
            .map_or(0, |last| last.number.wrapping_add(1));
        requests.push(Request {
            method: method.clone(),
            uri: uri.clone(),
            number,
        });
        number
    }

    /// Nobody works on it any more. The name of one that was upgraded stays.
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
        }
    }

    /// `GET /slow, POST /upload and 3 more`
    pub(crate) fn names(&self) -> String {
        let requests = self.requests();
        let mut text = String::new();
        for request in requests.iter().take(NAMED) {
            let lead = if text.is_empty() { "" } else { ", " };
            // Writing to a String cannot fail. Without the query, which may hold what is nobody's business.
            let _ = write!(text, "{lead}{} {}", request.method, request.uri.path());
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

//! What is going on on one client connection, so that its time limits hold in
//! every phase with a single timer, and its socket is closed without losing the
//! last response.

mod doing;
mod watched;

use std::future::{Future as _, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use hyper::Request;
use lifecycle_http::RequestFraming;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::inbound::interim::Interim;
use doing::Asked;

pub use watched::Watched;

/// Requests that the client of a connection may give up without their answers,
/// beyond those that it waits for.
const MOST_ABANDONED: usize = 100;

/// The time limits of a client connection.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// To the first byte, and from a request's first byte to the end of its head.
    pub header_read_timeout: Duration,
    /// Without a byte in either direction.
    pub idle: Duration,
}

/// Between requests.
const WAITING: u8 = 0;

/// A part of a request's head has arrived.
const HEAD: u8 = 1;

/// A request is being answered.
const EXCHANGE: u8 = 2;

/// It was sent on, whole, and the upstream has not begun to answer.
const UPSTREAM: u8 = 3;

/// The upstream has begun to answer.
const ANSWER: u8 = 4;

/// It is a connection in HTTP/2: what goes on in it is counted, not named.
const MULTIPLEXED: u8 = 5;

/// It was upgraded: what goes on is no HTTP any more.
const UPGRADED: u8 = 6;

/// The clock of one connection. Orderings are relaxed: it is read by the task
/// that owns the connection, for time limits and a choice of how to close.
#[derive(Debug)]
pub struct Activity {
    limits: Limits,
    opened: Instant,
    /// Milliseconds from `opened` to the last byte in either direction.
    last: AtomicU64,
    /// Milliseconds from `opened` to the first byte of the head being read.
    head: AtomicU64,
    phase: AtomicU8,
    /// A request's body has not been read to its end.
    unread: AtomicBool,
    /// In HTTP/2, requests whose answer has not begun.
    owed: AtomicUsize,
    /// Requests that the client gave up before their answer began, less those
    /// that were answered since.
    abandoned: AtomicUsize,
    /// How many times over that was too many, at most.
    given_up: AtomicUsize,
    /// How many requests have begun, and the first of them whose length is
    /// ambiguous; over HTTP/1.1 only.
    begun: AtomicU64,
    ambiguous: AtomicU64,
    /// The task that owns the connection, if it waits for that.
    owner: AtomicWaker,
    /// What is to be said before the next response.
    interim: Arc<Interim>,
    /// For people who look.
    asked: Asked,
}

impl Activity {
    /// A clock that starts now.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            opened: Instant::now(),
            last: AtomicU64::new(0),
            head: AtomicU64::new(0),
            phase: AtomicU8::new(WAITING),
            unread: AtomicBool::new(false),
            owed: AtomicUsize::new(0),
            abandoned: AtomicUsize::new(0),
            given_up: AtomicUsize::new(0),
            begun: AtomicU64::new(0),
            ambiguous: AtomicU64::new(u64::MAX),
            owner: AtomicWaker::new(),
            interim: Arc::default(),
            asked: Asked::default(),
        }
    }

    /// This request begins.
    pub fn asked<B>(&self, request: &Request<B>) {
        self.asked
            .begins(request, self.last.load(Ordering::Relaxed));
    }

    /// What is to be said before the next response.
    pub const fn interim(&self) -> &Arc<Interim> {
        &self.interim
    }

    /// Counts a request over HTTP/1.1, and returns whether its length, or that of
    /// one before it, is ambiguous.
    pub fn is_ambiguous(&self) -> bool {
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        number >= self.ambiguous.load(Ordering::Relaxed)
    }

    /// It is no HTTP connection any more.
    pub fn upgraded(&self) {
        self.phase.store(UPGRADED, Ordering::Relaxed);
    }

    /// A request's head is complete, on a connection in HTTP/2.
    pub fn stream_begins(&self) {
        self.owed.fetch_add(1, Ordering::Relaxed);
        self.phase.store(MULTIPLEXED, Ordering::Relaxed);
    }

    /// Its response begins.
    pub fn stream_answered(&self) {
        self.stream_is_settled();
        let fewer = |abandoned: usize| abandoned.checked_sub(1);
        // None to forget is as good.
        let _ = self
            .abandoned
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer);
    }

    /// Its client does not want the response any more.
    pub fn stream_abandoned(&self) {
        self.stream_is_settled();
        let abandoned = self.abandoned.fetch_add(1, Ordering::Relaxed) + 1;
        let times = abandoned / MOST_ABANDONED;
        if self.given_up.fetch_max(times, Ordering::Relaxed) < times {
            self.owner.wake();
        }
    }

    /// Waits until the client has given up so many requests that it only makes
    /// work: each costs it a few bytes, and the upstream a request.
    pub async fn enough(&self) {
        poll_fn(|cx| self.poll_given_up(cx, 1)).await;
    }

    /// Waits until it has gone on like that.
    pub async fn too_much(&self) {
        poll_fn(|cx| self.poll_given_up(cx, 2)).await;
    }

    fn stream_is_settled(&self) {
        self.touch();
        self.owed.fetch_sub(1, Ordering::Relaxed);
    }

    /// A request's head is complete; its body is still to be read.
    pub fn exchange_begins(&self) {
        self.interim.clear();
        self.phase.store(EXCHANGE, Ordering::Relaxed);
        self.unread.store(true, Ordering::Relaxed);
    }

    /// The request was read to its end: the client owes nothing any more.
    pub fn request_ended(&self) {
        self.unread.store(false, Ordering::Relaxed);
        // A response that came before the end of the request is not awaited again.
        let _ =
            self.phase
                .compare_exchange(EXCHANGE, UPSTREAM, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The response begins.
    pub fn answered(&self) {
        self.touch();
        self.phase.store(ANSWER, Ordering::Relaxed);
    }

    fn poll_given_up(&self, cx: &mut Context<'_>, times: usize) -> Poll<()> {
        // Over HTTP/1.1 who gives up a request gives up the connection.
        if self.phase.load(Ordering::Relaxed) != MULTIPLEXED {
            return Poll::Pending;
        }
        self.owner.register(cx.waker());
        if self.given_up.load(Ordering::Relaxed) >= times {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// The response was handed over to its last byte.
    pub fn exchange_ended(&self) {
        self.phase.store(WAITING, Ordering::Relaxed);
        self.asked.is_over();
    }

    /// When the last byte passed, in either direction.
    pub fn last_byte(&self) -> Instant {
        self.at(&self.last)
    }

    /// Ends when the connection has outstayed the limit of its phase.
    ///
    /// Poll it after the connection, in the same task: what the connection did
    /// moves the deadline, both ways.
    pub async fn expired(&self) {
        let mut timer = pin!(sleep_until(Instant::now() + self.limits.idle));
        let mut waits: Option<Waker> = None;
        poll_fn(|cx| {
            // Only a head brings the deadline forward. Otherwise there is nothing to
            // ask, neither timer nor clock, until the timer has woken this task.
            let waker = cx.waker();
            let is_set = waits.as_ref().is_some_and(|waits| waits.will_wake(waker));
            if is_set && self.phase.load(Ordering::Relaxed) != HEAD && !timer.is_elapsed() {
                return Poll::Pending;
            }
            if !is_set {
                waits = Some(waker.clone());
            }
            self.poll_expired(cx, timer.as_mut())
        })
        .await
    }

    fn poll_expired(&self, cx: &mut Context<'_>, mut timer: Pin<&mut Sleep>) -> Poll<()> {
        loop {
            let deadline = self.deadline();
            if deadline < timer.deadline() {
                timer.as_mut().reset(deadline);
            }
            ready!(timer.as_mut().poll(cx));
            if deadline <= timer.deadline() {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
    }

    fn deadline(&self) -> Instant {
        match self.phase.load(Ordering::Relaxed) {
            HEAD => self.at(&self.head) + self.limits.header_read_timeout,
            // The upstream's own limit holds here.
            UPSTREAM => Instant::now() + self.limits.idle,
            MULTIPLEXED if self.owed.load(Ordering::Relaxed) > 0 => {
                Instant::now() + self.limits.idle
            }
            _ => self.last_byte() + self.limits.idle,
        }
    }

    fn at(&self, millis: &AtomicU64) -> Instant {
        self.opened + Duration::from_millis(millis.load(Ordering::Relaxed))
    }

    fn touch(&self) -> u64 {
        let elapsed = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(elapsed, Ordering::Relaxed);
        elapsed
    }

    /// Looks at bytes before they are read as requests.
    fn inspect(&self, bytes: &[u8], framing: &mut RequestFraming) {
        if matches!(self.phase.load(Ordering::Relaxed), MULTIPLEXED | UPGRADED) {
            return;
        }
        framing.pass(bytes);
        if let Some(number) = framing.first_ambiguous() {
            self.ambiguous.store(number, Ordering::Relaxed);
        }
    }

    fn bytes_arrived(&self) {
        let now = self.touch();
        if self.phase.load(Ordering::Relaxed) == WAITING {
            self.head.store(now, Ordering::Relaxed);
            self.phase.store(HEAD, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;

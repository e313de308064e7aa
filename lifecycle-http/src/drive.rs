//! Drives a connection to its end: decides how long the connection may last, and when and how it is closed.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use lifecycle_runtime::{CloseReason, Connection};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::Limits;
use crate::activity::{Activity, Seen};

/// A connection of hyper that can be shut down gracefully.
pub(crate) trait Drivable: Future<Output = hyper::Result<()>> {
    /// Asks the connection to end after the requests in flight, or at once if there are none.
    fn start_graceful_shutdown(self: Pin<&mut Self>);
}

/// The way in which a connection ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The connection closed in order, or was upgraded.
    Closed,
    /// The connection lasted longer than one of its limits allows.
    Expired,
    /// The client went on to give up requests before their responses, after the server had asked it to close for that.
    Abusive,
    Broken(hyper::Error),
}

/// The signal that the connection should close, once the connection's task has received it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    /// The time at which the task received the signal, since the connection was opened.
    pub(crate) at: Duration,
    pub(crate) reason: CloseReason,
    /// The wait for this connection's turn, since many idle connections are closed one after the other.
    pub(crate) delay: Duration,
}

/// The next thing that `drive` does about its connection.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Do nothing before this time, which counts since the connection was opened.
    Wait(Duration),
    /// Do nothing until the connection's task is woken.
    Rest,
    /// Begin the graceful shutdown of the connection.
    Part,
    /// End the connection at once.
    Cut,
}

/// The signal that a connection should close.
pub(crate) struct Signal<F> {
    /// A clone and not a reference, which would be one memory access more at each poll.
    connection: Connection,
    /// The task that `closing` wakes.
    waits: Option<Waker>,
    /// The signal, once it has come.
    pub(crate) told: Option<Told>,
    closing: Pin<Box<F>>,
}

impl<F: Future<Output = CloseReason>> Signal<F> {
    /// Creates the signal of `connection`, which `closing` waits for.
    pub(crate) fn new(connection: Connection, closing: Pin<Box<F>>) -> Self {
        Self {
            connection,
            waits: None,
            told: None,
            closing,
        }
    }

    /// Returns the signal to close the connection, if it has come. Otherwise the task is woken when it comes.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        activity: &Activity,
        delay: impl FnOnce(CloseReason) -> Duration,
    ) -> Option<Told> {
        if self.told.is_some() || (self.would_wake(cx) && !self.connection.is_cancelled()) {
            return self.told;
        }
        if let Poll::Ready(reason) = self.closing.as_mut().poll(cx) {
            let at = activity.opened().elapsed();
            let delay = delay(reason);
            self.told = Some(Told { at, reason, delay });
        } else {
            self.waits = Some(cx.waker().clone());
        }
        self.told
    }

    /// Returns whether the signal wakes this task, so that `closing` needs no other poll before.
    fn would_wake(&self, cx: &Context<'_>) -> bool {
        self.waits
            .as_ref()
            .is_some_and(|it| it.will_wake(cx.waker()))
    }
}

/// A timer that is created by its first poll, and reset only when its deadline changes.
#[derive(Debug, Default)]
pub(crate) struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    pub(crate) fn poll(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self
            .0
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(cx)
    }
}

pin_project! {
    /// The future of [`drive`]. What every poll looks at comes first, next to what every poll of an HTTP/1.1 connection
    /// looks at.
    #[repr(C)]
    struct Drive<'a, C, F, D> {
        signal: Signal<F>,
        activity: &'a Activity,
        // The time at which the graceful shutdown began.
        parted: Option<Duration>,
        #[pin]
        http: C,
        limits: &'a Limits,
        delay: D,
        timer: Timer,
        // The task that `activity` wakes, over h2.
        waits: Option<Waker>,
    }
}

/// Serves a connection until it ends, is upgraded, or lasts longer than a limit allows. `delay` returns how long a
/// connection waits before it closes for a reason.
pub(crate) fn drive<'a, C: Drivable, F: Future<Output = CloseReason>>(
    http: C,
    activity: &'a Activity,
    limits: &'a Limits,
    signal: Signal<F>,
    delay: impl Fn(CloseReason) -> Duration,
) -> impl Future<Output = End> {
    Drive {
        signal,
        activity,
        parted: None,
        http,
        limits,
        delay,
        timer: Timer::default(),
        waits: None,
    }
}

impl<C, F, D> Future for Drive<'_, C, F, D>
where
    C: Drivable,
    F: Future<Output = CloseReason>,
    D: Fn(CloseReason) -> Duration,
{
    type Output = End;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End> {
        let mut this = self.project();
        let activity = *this.activity;
        let waits = |waker: &Waker| waker.will_wake(cx.waker());
        if activity.is_h2() && !this.waits.as_ref().is_some_and(waits) {
            activity.wakes(cx.waker());
            *this.waits = Some(cx.waker().clone());
        }
        loop {
            let told = this.signal.poll(cx, activity, &*this.delay);
            // The graceful shutdown starts before hyper is polled: the request in flight may end in that poll, and
            // should be the last one on the connection.
            if told.is_some() && this.parted.is_none() && activity.is_in_exchange() {
                *this.parted = Some(activity.opened().elapsed());
                this.http.as_mut().start_graceful_shutdown();
            }
            // hyper is polled before the connection is closed as idle, so that a request that has arrived is still
            // answered.
            if let Poll::Ready(ended) = this.http.as_mut().poll(cx) {
                return Poll::Ready(ended.map_or_else(End::Broken, |()| End::Closed));
            }
            if told.is_none() && this.parted.is_none() && activity.is_unlimited() {
                return Poll::Pending;
            }
            let seen = activity.seen();
            if seen.given_up > 1 {
                return Poll::Ready(End::Abusive);
            }
            let next = if activity.is_h2() {
                next_h2(&seen, told, *this.parted, this.limits)
            } else {
                next_h1(&seen, told, *this.parted, this.limits)
            };
            match next {
                Next::Rest => return Poll::Pending,
                Next::Cut => return Poll::Ready(End::Expired),
                Next::Part => {
                    *this.parted = Some(seen.now);
                    this.http.as_mut().start_graceful_shutdown();
                }
                Next::Wait(until) => {
                    // The decision counts whole milliseconds. A timer that fires too early would make this loop spin,
                    // so the timer is set one millisecond later.
                    let deadline = activity.opened() + until + Duration::from_millis(1);
                    std::task::ready!(this.timer.poll(deadline, cx));
                }
            }
        }
    }
}

fn by(deadline: Duration, now: Duration, then: Next) -> Next {
    if now < deadline {
        Next::Wait(deadline)
    } else {
        then
    }
}

/// Decides about an HTTP/1.1 connection, which is in a request, in a request's head, or between two requests.
fn next_h1(seen: &Seen, told: Option<Told>, parted: Option<Duration>, limits: &Limits) -> Next {
    if seen.exchanges > 0 {
        return match (told, parted) {
            (Some(_), None) => Next::Part,
            _ => silence(seen, limits),
        };
    }
    if let (Some(head), None) = (seen.head, parted) {
        let given = head + limits.header_read_timeout;
        let told = told.map(|told| told.at.max(head) + limits.close_ack_timeout);
        return by(
            told.map_or(given, |told| told.min(given)),
            seen.now,
            Next::Cut,
        );
    }
    match (told, parted) {
        (Some(told), None) => {
            // During a drain, a client that was answered a moment ago has time for one more request. A client that was
            // idle for too long has none.
            let again = match told.reason {
                CloseReason::Drain => seen.quiet + limits.keep_alive_after_drain,
                _ => Duration::ZERO,
            };
            by(again.max(told.at + told.delay), seen.now, Next::Part)
        }
        // Either there is no signal to close, or the connection is closing already, which `Limits::linger` bounds.
        _ => Next::Rest,
    }
}

/// Decides when a connection in a request is cut because no byte moves in either direction. `pace.rs` has the limits
/// for single bodies.
fn silence(seen: &Seen, limits: &Limits) -> Next {
    if seen.awaits_service || seen.tunnel || !limits.limits_silence() {
        return Next::Rest;
    }
    by(seen.last + limits.silence, seen.now, Next::Cut)
}

/// Decides about an HTTP/2 connection, which has requests in flight or has none.
fn next_h2(seen: &Seen, told: Option<Told>, parted: Option<Duration>, limits: &Limits) -> Next {
    if let (Some(told), None) = (told, parted) {
        let turn = if seen.exchanges > 0 {
            told.at
        } else {
            told.at + told.delay
        };
        return by(turn, seen.now, Next::Part);
    }
    if seen.given_up > 0 && parted.is_none() {
        return Next::Part;
    }
    if seen.exchanges > 0 {
        // Pings show whether the client is there, but not whether it takes its responses. So a client that takes none
        // is cut after `Limits::stall`.
        return match (seen.owing, silence(seen, limits)) {
            (0, silence) => silence,
            (_, Next::Cut) => Next::Cut,
            (_, silence) => {
                let stall = seen.moved + limits.stall;
                let earlier = match silence {
                    Next::Wait(until) => until.min(stall),
                    _ => stall,
                };
                if stall <= seen.now {
                    Next::Cut
                } else {
                    Next::Wait(earlier)
                }
            }
        };
    }
    match parted {
        Some(parted) if !seen.tunnel => {
            let last = parted.max(seen.wrote).max(seen.quiet) + limits.close_ack_timeout;
            // The client acknowledges the shutdown once it has read all that was sent before. If that is much, the
            // client has `Limits::stall` for it.
            let taken = seen.bulk.map_or(last, |bulk| bulk + limits.stall);
            by(last.max(taken), seen.now, Next::Cut)
        }
        _ => Next::Rest,
    }
}

#[cfg(test)]
mod tests;

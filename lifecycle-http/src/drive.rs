//! Drives a connection to its end: what it may take, and how it is closed.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use lifecycle_runtime::CloseReason;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::Limits;
use crate::activity::{Activity, Seen};

/// A connection of hyper.
pub(crate) trait Drivable: Future<Output = hyper::Result<()>> {
    /// Ends after what it is in; at once if it is in nothing.
    fn start_graceful_shutdown(self: Pin<&mut Self>);
}

/// How a connection ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The connection closed in order, or was upgraded.
    Closed,
    /// The connection outstayed a limit.
    Expired,
    /// The client went on to give up requests, though it was told to close for that.
    Abusive,
    Broken(hyper::Error),
}

/// The news that the connection should close.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    /// Since the connection was opened.
    pub(crate) at: Duration,
    pub(crate) reason: CloseReason,
    /// Its turn among many idle ones.
    pub(crate) delay: Duration,
}

/// The next thing to do about a connection that waits.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Do nothing before this time.
    Wait(Duration),
    /// Do nothing.
    Rest,
    /// Begin the graceful shutdown of the connection.
    Part,
    /// End the connection.
    Cut,
}

/// Learns that the connection should close, and keeps it.
pub(crate) struct Signal<'a, F> {
    pub(crate) closing: Pin<&'a mut F>,
    pub(crate) told: Option<Told>,
}

impl<F: Future<Output = CloseReason>> Signal<'_, F> {
    /// Wakes the task when it is told.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        activity: &Activity,
        delay: impl FnOnce() -> Duration,
    ) -> Option<Told> {
        if self.told.is_none() {
            if let Poll::Ready(reason) = self.closing.as_mut().poll(cx) {
                let at = activity.opened().elapsed();
                let delay = delay();
                self.told = Some(Told { at, reason, delay });
            }
        }
        self.told
    }
}

/// A timer that is made when it is first needed, and moved only when it must be.
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

/// Serves until the connection ends, is upgraded or outstays a limit.
pub(crate) async fn drive<C: Drivable, F: Future<Output = CloseReason>>(
    http: C,
    activity: &Activity,
    limits: &Limits,
    mut signal: Signal<'_, F>,
    delay: impl Fn() -> Duration,
) -> End {
    let mut http = pin!(http);
    let mut timer = Timer::default();
    let mut parted = None;
    let mut waits: Option<Waker> = None;
    poll_fn(|cx| {
        if activity.is_h2() && !waits.as_ref().is_some_and(|it| it.will_wake(cx.waker())) {
            activity.wakes(cx.waker());
            waits = Some(cx.waker().clone());
        }
        loop {
            let told = signal.poll(cx, activity, &delay);
            // Before it is polled: what is in flight may end just now, and should be the last.
            if told.is_some() && parted.is_none() && activity.seen().exchanges > 0 {
                parted = Some(activity.opened().elapsed());
                http.as_mut().start_graceful_shutdown();
            }
            // Then it is: a request that has arrived is taken up before the connection is closed as idle.
            if let Poll::Ready(ended) = http.as_mut().poll(cx) {
                return Poll::Ready(ended.map_or_else(End::Broken, |()| End::Closed));
            }
            let seen = activity.seen();
            if seen.given_up > 1 {
                return Poll::Ready(End::Abusive);
            }
            let next = if activity.is_h2() {
                next_h2(&seen, told, parted, limits)
            } else {
                next_h1(&seen, told, parted, limits)
            };
            match next {
                Next::Rest => return Poll::Pending,
                Next::Cut => return Poll::Ready(End::Expired),
                Next::Part => {
                    parted = Some(seen.now);
                    http.as_mut().start_graceful_shutdown();
                }
                Next::Wait(until) => {
                    // The clock of the decision is in milliseconds: a timer that is early would spin.
                    let deadline = activity.opened() + until + Duration::from_millis(1);
                    std::task::ready!(timer.poll(deadline, cx));
                }
            }
        }
    })
    .await
}

fn by(deadline: Duration, now: Duration, then: Next) -> Next {
    if now < deadline {
        Next::Wait(deadline)
    } else {
        then
    }
}

/// HTTP/1.1 is in a request, in a head, or between two.
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
            // A client that is closed for being idle needs no chance to ask again.
            let again = match told.reason {
                CloseReason::Drain => seen.quiet + limits.keep_alive_after_drain,
                _ => Duration::ZERO,
            };
            by(again.max(told.at + told.delay), seen.now, Next::Part)
        }
        // The connection lingers, and that is limited.
        _ => Next::Rest,
    }
}

/// Bodies have limits of their own; this is the one for a connection on which nothing moves at all.
fn silence(seen: &Seen, limits: &Limits) -> Next {
    if seen.awaits_service || seen.tunnel || !limits.limits_silence() {
        return Next::Rest;
    }
    by(seen.last + limits.silence, seen.now, Next::Cut)
}

/// HTTP/2 is in some requests, or none.
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
        // Pings tell whether the client is there; not whether it takes what it asked for.
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
            // The client answers once it has read what was sent before, and that may be much.
            let taken = seen.bulk.map_or(last, |bulk| bulk + limits.stall);
            by(last.max(taken), seen.now, Next::Cut)
        }
        _ => Next::Rest,
    }
}

#[cfg(test)]
mod tests;

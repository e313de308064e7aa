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
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn seen(now: u64) -> Seen {
        Seen {
            now: seconds(now),
            head: None,
            quiet: Duration::ZERO,
            wrote: Duration::ZERO,
            moved: Duration::ZERO,
            bulk: None,
            exchanges: 0,
            owing: 0,
            tunnel: false,
            last: Duration::ZERO,
            awaits_service: false,
            given_up: 0,
        }
    }

    fn told(at: u64, reason: CloseReason) -> Option<Told> {
        Some(Told {
            at: seconds(at),
            reason,
            delay: Duration::ZERO,
        })
    }

    fn limits() -> Limits {
        Limits {
            keep_alive_after_drain: seconds(1),
            ..Limits::default()
        }
    }

    #[test]
    fn h1_between_requests_is_closed_unless_it_was_answered_a_moment_ago() {
        let told = told(100, CloseReason::Drain);
        assert_eq!(next_h1(&seen(100), told, None, &limits()), Next::Part);
        let mut seen = seen(100);
        seen.quiet = seconds(100);
        assert_eq!(
            next_h1(&seen, told, None, &limits()),
            Next::Wait(seconds(101))
        );
        seen.now = seconds(101);
        assert_eq!(next_h1(&seen, told, None, &limits()), Next::Part);
    }

    #[test]
    fn h1_that_was_idle_for_too_long_gets_no_chance_to_ask_again() {
        let mut seen = seen(100);
        seen.quiet = seconds(100);
        assert_eq!(
            next_h1(&seen, told(100, CloseReason::Idle), None, &limits()),
            Next::Part
        );
    }

    #[test]
    fn h1_waits_for_its_turn_among_many() {
        let told = Some(Told {
            delay: seconds(3),
            ..told(100, CloseReason::Drain).unwrap()
        });
        assert_eq!(
            next_h1(&seen(100), told, None, &limits()),
            Next::Wait(seconds(103))
        );
    }

    #[test]
    fn h1_in_a_request_ends_after_it() {
        let mut seen = seen(100);
        seen.exchanges = 1;
        assert_eq!(next_h1(&seen, None, None, &limits()), Next::Rest);
        let told = told(100, CloseReason::Drain);
        assert_eq!(next_h1(&seen, told, None, &limits()), Next::Part);
        assert_eq!(
            next_h1(&seen, told, Some(seconds(100)), &limits()),
            Next::Rest
        );
    }

    #[test]
    fn silence_in_an_exchange_is_limited_unless_the_service_is_waited_for() {
        let limits = Limits {
            silence: seconds(10),
            ..limits()
        };
        let mut seen = seen(100);
        seen.exchanges = 1;
        seen.last = seconds(95);
        for next in [next_h1, next_h2] {
            assert_eq!(next(&seen, None, None, &limits), Next::Wait(seconds(105)));
            let awaits = Seen {
                awaits_service: true,
                ..seen
            };
            assert_eq!(next(&awaits, None, None, &limits), Next::Rest);
            let late = Seen {
                now: seconds(105),
                ..seen
            };
            assert_eq!(next(&late, None, None, &limits), Next::Cut);
        }
        // The earlier of the two limits holds.
        seen.owing = 1;
        seen.moved = seconds(80);
        assert_eq!(
            next_h2(&seen, None, None, &limits),
            Next::Wait(seconds(105))
        );
        seen.moved = seconds(70);
        assert_eq!(next_h2(&seen, None, None, &limits), Next::Cut);
    }

    #[test]
    fn an_h2_client_that_gave_up_too_many_requests_is_told_to_go() {
        let mut seen = seen(100);
        seen.exchanges = 1;
        seen.given_up = 1;
        assert_eq!(next_h2(&seen, None, None, &limits()), Next::Part);
        assert_eq!(
            next_h2(&seen, None, Some(seconds(100)), &limits()),
            Next::Rest
        );
    }

    #[test]
    fn half_a_head_has_the_hello_and_while_draining_the_farewell() {
        let mut seen = seen(5);
        seen.head = Some(seconds(1));
        assert_eq!(
            next_h1(&seen, None, None, &limits()),
            Next::Wait(seconds(11))
        );
        let told = told(5, CloseReason::Drain);
        assert_eq!(
            next_h1(&seen, told, None, &limits()),
            Next::Wait(seconds(7))
        );
        seen.now = seconds(7);
        assert_eq!(next_h1(&seen, told, None, &limits()), Next::Cut);
    }

    #[test]
    fn h2_that_never_acknowledges_has_the_farewell() {
        let told = told(10, CloseReason::Drain);
        assert_eq!(next_h2(&seen(10), told, None, &limits()), Next::Part);
        let parted = Some(seconds(10));
        assert_eq!(
            next_h2(&seen(10), told, parted, &limits()),
            Next::Wait(seconds(12))
        );
        assert_eq!(next_h2(&seen(12), told, parted, &limits()), Next::Cut);
    }

    #[test]
    fn h2_that_was_sent_much_has_the_time_to_take_it_first() {
        let (told, parted) = (told(10, CloseReason::Drain), Some(seconds(10)));
        let mut seen = seen(20);
        seen.bulk = Some(seconds(9));
        assert_eq!(
            next_h2(&seen, told, parted, &limits()),
            Next::Wait(seconds(39))
        );
        seen.now = seconds(39);
        assert_eq!(next_h2(&seen, told, parted, &limits()), Next::Cut);
    }

    #[test]
    fn h2_finishes_its_streams_and_tunnels() {
        let told = told(10, CloseReason::Drain);
        let parted = Some(seconds(10));
        let mut streaming = seen(1_000);
        streaming.exchanges = 1;
        assert_eq!(next_h2(&streaming, told, parted, &limits()), Next::Rest);
        let mut tunnel = seen(1_000);
        tunnel.tunnel = true;
        assert_eq!(next_h2(&tunnel, told, parted, &limits()), Next::Rest);
    }

    #[test]
    fn h2_whose_client_takes_nothing_is_cut() {
        let mut seen = seen(100);
        seen.exchanges = 1;
        seen.owing = 1;
        seen.moved = seconds(90);
        assert_eq!(
            next_h2(&seen, None, None, &limits()),
            Next::Wait(seconds(120))
        );
        seen.now = seconds(120);
        assert_eq!(next_h2(&seen, None, None, &limits()), Next::Cut);
    }
}

use http::{Method, Uri};

use super::*;
use crate::socket::SharedSocket;

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
    // Now `silence` and `stall` both apply, and the earlier deadline of the two holds.
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

/// The quick answer of `is_unlimited` is the one that `next_h1` gives, in every state that a connection passes through.
#[tokio::test]
async fn h1_is_unlimited_exactly_when_nothing_is_to_be_done_before_it_is_woken() {
    let limits = Limits {
        silence: seconds(10),
        ..limits()
    };
    for upgraded in [false, true] {
        let activity = Activity::new(SharedSocket::default());
        let agrees = |unlimited: bool, state: &str| {
            assert_eq!(activity.is_unlimited(), unlimited, "{state}");
            let next = next_h1(&activity.seen(), None, None, &limits);
            assert_eq!(next == Next::Rest, unlimited, "{state}");
        };
        agrees(true, "idle");
        activity.bytes_arrived();
        agrees(false, "half a head");
        let number = activity.begins(&Method::GET, &Uri::from_static("/"));
        activity.unread(true);
        agrees(false, "the client sends a body");
        activity.unread(false);
        agrees(true, "the service is waited for");
        activity.answers();
        agrees(false, "the client takes a response");
        activity.ends(number, upgraded);
        agrees(true, "answered");
        activity.begins(&Method::GET, &Uri::from_static("/"));
        activity.answers();
        agrees(
            upgraded,
            "the client takes a response, or the connection is upgraded",
        );
    }
}

//! A gate admits and drains exactly, also when threads enter, leave and close at the same time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use lifecycle_runtime::{
    Closed, Component, Context, Gate, GracefulShutdown, Outcome, Reason, ShutdownState,
};
use lifecycle_tests::secs;
use tokio::time::advance;
use tokio_test::task::spawn;
use tokio_test::{assert_pending, assert_ready};

#[derive(GracefulShutdown)]
#[shutdown(timeout = "10s")]
struct Server {
    #[shutdown]
    requests: Gate,
    #[shutdown(state)]
    state: ShutdownState,
}

impl Server {
    fn new() -> Self {
        Self {
            requests: Gate::new(),
            state: ShutdownState::new(),
        }
    }
}

#[test]
fn a_closed_gate_admits_no_request_and_keeps_the_passes_inside() {
    let gate = Gate::new();
    let pass = gate.enter().expect("it is open");
    assert!(!pass.is_cancelled());
    gate.close();
    gate.close();
    assert_eq!(gate.enter().err(), Some(Closed));
    assert_eq!(gate.enter_labelled("late").err(), Some(Closed));
    assert!(gate.is_closed() && pass.is_cancelled());
    assert_eq!(gate.in_flight(), 1);
    drop(pass);
    assert!(gate.is_drained());
    assert_eq!(gate.in_flight(), 0);
}

#[test]
fn a_gate_is_drained_when_the_last_pass_has_left_and_not_before_it_is_closed() {
    let gate = Gate::new();
    let mut drained = spawn(gate.drained());
    let (first, second) = (gate.enter().unwrap(), gate.enter().unwrap());
    drop(first);
    assert_pending!(drained.poll());
    let third = gate.enter().unwrap();
    drop((second, third));
    assert_pending!(drained.poll(), "empty, but open");
    let last = gate.enter().unwrap();
    gate.close();
    assert_pending!(drained.poll());
    assert!(!drained.is_woken());
    drop(last);
    assert!(drained.is_woken(), "once, by the last");
    assert_ready!(drained.poll());
}

#[test]
fn a_clone_of_a_pass_is_waited_for_also_when_it_was_made_after_the_close() {
    let gate = Gate::new();
    let pass = gate.enter().unwrap();
    gate.close();
    let part = pass.clone();
    drop(pass);
    assert!(!gate.is_drained());
    assert_eq!(gate.in_flight(), 1);
    drop(part);
    assert!(gate.is_drained());
}

#[test]
fn every_waiter_is_woken_and_one_that_gave_up_takes_no_wakeup_from_another() {
    let gate = Gate::new();
    let pass = gate.enter().unwrap();
    let mut waiters: Vec<_> = (0..3).map(|_| spawn(gate.drained())).collect();
    let mut closings: Vec<_> = (0..3).map(|_| spawn(pass.cancelled())).collect();
    waiters
        .iter_mut()
        .for_each(|waiter| assert_pending!(waiter.poll()));
    closings
        .iter_mut()
        .for_each(|closing| assert_pending!(closing.poll()));
    drop((waiters.remove(0), closings.remove(0)));
    gate.close();
    for mut closing in closings {
        assert!(closing.is_woken());
        assert_ready!(closing.poll());
    }
    drop(pass);
    for mut waiter in waiters {
        assert!(waiter.is_woken());
        assert_ready!(waiter.poll());
    }
    assert_ready!(spawn(gate.drained()).poll(), "a late waiter");
}

#[test]
fn dropping_a_clone_changes_nothing_and_dropping_the_last_gate_closes_it() {
    let gate = Gate::new();
    let pass = gate.enter().unwrap();
    drop(gate.clone());
    assert!(!gate.is_closed() && gate.enter().is_ok());
    let mut closing = spawn(pass.cancelled());
    assert_pending!(closing.poll());
    drop(gate);
    assert!(closing.is_woken());
    assert_ready!(closing.poll());
}

#[test]
fn a_new_gate_is_independent_of_earlier_gates() {
    for _ in 0..100 {
        let gate = Gate::new();
        assert!(!gate.is_closed() && !gate.is_drained());
        assert_eq!(gate.in_flight(), 0);
        let (left, kept) = (gate.enter().unwrap(), gate.enter().unwrap());
        drop(left);
        drop(gate);
        // The gate that admitted the pass `kept` is dropped. A new gate must not reuse the memory that `kept` still
        // uses.
        let other = Gate::new();
        let inside = other.enter().unwrap();
        drop(kept);
        assert!(!other.is_closed());
        assert_eq!(other.in_flight(), 1);
        drop(inside);
    }
}

#[tokio::test(start_paused = true)]
async fn the_step_of_a_gate_waits_for_the_passes() {
    let mut server = Server::new();
    let pass = server.requests.enter().unwrap();
    let gate = server.requests.clone();
    let mut shutdown = spawn(server.shutdown());
    assert_pending!(shutdown.poll());
    assert!(gate.is_closed());
    drop(pass);
    assert!(assert_ready!(shutdown.poll()).is_clean());
}

#[tokio::test(start_paused = true)]
async fn a_step_that_is_cut_names_the_labelled_passes_that_were_held_longest() {
    let mut server = Server::new();
    let upload = server.requests.enter_labelled("POST /upload").unwrap();
    advance(secs(3)).await;
    let feed = server
        .requests
        .enter_labelled(format!("GET /feed/{}", 7))
        .unwrap();
    let unnamed = server.requests.enter().unwrap();
    let ended = server.requests.enter_labelled("ended").unwrap();
    drop(ended);
    let report = server.shutdown().await;
    let outcome = report.step("requests").unwrap().outcome();
    let Outcome::TimedOut {
        waiting_for: Some(text),
    } = outcome
    else {
        panic!("{outcome:?}")
    };
    assert_eq!(
        text,
        "3 passes: POST /upload for 13.0 s, GET /feed/7 for 10.0 s and 1 more"
    );
    drop((upload, feed, unnamed));
}

#[tokio::test(start_paused = true)]
async fn a_step_that_is_cut_counts_passes_that_have_no_name() {
    let mut server = Server::new();
    let pass = server.requests.enter().unwrap();
    let report = server.shutdown().await;
    let outcome = report.step("requests").unwrap().outcome();
    assert!(
        matches!(outcome, Outcome::TimedOut { waiting_for: Some(text) } if text == "1 pass"),
        "{outcome:?}"
    );
    drop(pass);
}

#[tokio::test]
async fn the_cleanup_of_a_gate_can_be_repeated() {
    let mut gate = Gate::new();
    let cx = Context::new(Reason::Requested, secs(10));
    let pass = gate.enter().unwrap();
    assert_pending!(spawn(gate.cleanup(&cx)).poll());
    drop(pass);
    gate.cleanup(&cx).await.unwrap();
    gate.cleanup(&cx).await.unwrap();
}

#[test]
fn no_thread_enters_after_the_close_and_every_pass_is_counted_out() {
    const THREADS: usize = 4;
    for round in 0..200 {
        let gate = Gate::new();
        let (closed, inside) = (AtomicBool::new(false), AtomicUsize::new(0));
        let admitted = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                let gate = gate.clone();
                scope.spawn(|| {
                    let gate = gate;
                    loop {
                        let was_closed = closed.load(Ordering::SeqCst);
                        let Ok(pass) = gate.enter() else { break };
                        assert!(!was_closed, "admitted after close had returned");
                        inside.fetch_add(1, Ordering::SeqCst);
                        admitted.fetch_add(1, Ordering::SeqCst);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(pass);
                    }
                });
            }
            // Every round closes the gate at another moment, and every other round from two threads.
            while admitted.load(Ordering::SeqCst) < round {
                thread::yield_now();
            }
            if round % 2 == 0 {
                let gate = gate.clone();
                scope.spawn(move || gate.close());
            }
            gate.close();
            closed.store(true, Ordering::SeqCst);
            let mut drained = spawn(gate.drained());
            while drained.poll().is_pending() {
                thread::yield_now();
            }
            assert_eq!(
                inside.load(Ordering::SeqCst),
                0,
                "drained while one was inside"
            );
        });
        assert!(gate.is_drained());
        assert_eq!(gate.in_flight(), 0);
    }
}

#[test]
fn passes_that_move_between_threads_are_counted_out_where_they_are_dropped() {
    for _ in 0..50 {
        let gate = Gate::new();
        let passes: Vec<_> = (0..64).map(|_| gate.enter().unwrap()).collect();
        let mut halves = passes.into_iter().enumerate();
        let first: Vec<_> = halves.by_ref().take(32).collect();
        let second: Vec<_> = halves.collect();
        gate.close();
        thread::scope(|scope| {
            scope.spawn(move || drop(first));
            scope.spawn(move || drop(second));
        });
        assert!(gate.is_drained());
    }
}

#[test]
fn an_aborted_gate_is_closed_also_when_it_is_shared() {
    let mut gate = Gate::new();
    gate.abort();
    assert!(gate.is_closed());
    let mut gate = Arc::new(Gate::new());
    gate.abort();
    assert!(gate.is_closed());
}

#[test]
fn the_debug_output_of_a_gate_and_its_passes_shows_their_state() {
    let gate = Gate::new();
    let pass = gate.enter().unwrap();
    let named = gate.enter_labelled("upload").unwrap();
    assert_eq!(format!("{gate:?}"), "Gate { closed: false, in_flight: 2 }");
    assert_eq!(format!("{pass:?}"), "Pass { cancelled: false }");
    gate.close();
    assert_eq!(format!("{named:?}"), "Pass { cancelled: true }");
    assert_eq!(Closed.to_string(), "the gate is closed");
}

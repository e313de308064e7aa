//! Tests of the gate under loom. Loom runs all orders in which two or three threads can interleave.
//!
//! `RUSTFLAGS="--cfg lifecycle_loom" cargo test -p lifecycle-runtime --no-default-features --features rt --lib
//! --release gate::loom_tests`

use loom::future::block_on;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use super::Gate;

/// Runs `model` under loom with at most three preemptions. More preemptions find nothing new in tests this small.
fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(3);
    builder.check(model);
}

#[test]
fn after_close_returns_no_pass_is_issued() {
    check(|| {
        let gate = Gate::new();
        let closed = Arc::new(AtomicUsize::new(0));
        let (other, seen) = (gate.clone(), Arc::clone(&closed));
        let entrant = thread::spawn(move || {
            let closed_before = seen.load(Ordering::SeqCst) == 1;
            let pass = other.enter();
            assert!(!(closed_before && pass.is_ok()));
            pass.is_ok()
        });
        gate.close();
        closed.store(1, Ordering::SeqCst);
        assert!(gate.enter().is_err());
        entrant.join().unwrap();
        block_on(gate.drained());
        assert_eq!(gate.in_flight(), 0);
    });
}

#[test]
fn drained_means_that_what_was_done_under_a_pass_is_seen() {
    check(|| {
        let gate = Gate::new();
        let work = Arc::new(AtomicUsize::new(0));
        let (other, done) = (gate.clone(), Arc::clone(&work));
        let entrant = thread::spawn(move || match other.enter() {
            Ok(pass) => {
                // The store is relaxed, so that only the gate can order it before the load below.
                done.store(1, Ordering::Relaxed);
                drop(pass);
                true
            }
            Err(_) => false,
        });
        gate.close();
        block_on(gate.drained());
        let seen = work.load(Ordering::Relaxed);
        if entrant.join().unwrap() {
            assert_eq!(seen, 1);
        }
    });
}

#[test]
fn the_gate_drains_when_the_last_pass_and_the_closer_race() {
    check(|| {
        let gate = Gate::new();
        let pass = gate.enter().unwrap();
        let leaver = thread::spawn(move || drop(pass));
        gate.close();
        block_on(gate.drained());
        leaver.join().unwrap();
    });
}

#[test]
fn the_gate_drains_when_two_closers_and_a_pass_race() {
    check(|| {
        let gate = Gate::new();
        let pass = gate.enter().unwrap();
        let other = gate.clone();
        let closer = thread::spawn(move || {
            other.close();
            assert!(other.enter().is_err());
        });
        gate.close();
        assert!(gate.enter().is_err());
        drop(pass);
        block_on(gate.drained());
        closer.join().unwrap();
    });
}

#[test]
fn a_drain_waits_for_a_clone_that_is_made_while_the_gate_closes() {
    check(|| {
        let gate = Gate::new();
        let pass = gate.enter().unwrap();
        let work = Arc::new(AtomicUsize::new(0));
        let done = Arc::clone(&work);
        let part = thread::spawn(move || {
            let clone = pass.clone();
            drop(pass);
            // The store is relaxed, so that only the gate can order it before the load below.
            done.store(1, Ordering::Relaxed);
            drop(clone);
        });
        gate.close();
        block_on(gate.drained());
        assert_eq!(work.load(Ordering::Relaxed), 1);
        part.join().unwrap();
    });
}

#[test]
fn a_waiter_is_woken_before_the_close_and_after_the_drain() {
    check(|| {
        let gate = Gate::new();
        let other = gate.clone();
        let waiter = thread::spawn(move || block_on(other.drained()));
        gate.close();
        waiter.join().unwrap();
        block_on(gate.drained());
    });
}

#[test]
fn a_pass_may_be_dropped_on_another_thread_while_entrants_are_refused() {
    check(|| {
        let gate = Gate::new();
        let pass = gate.enter().unwrap();
        let other = gate.clone();
        let hammer = thread::spawn(move || {
            let first = other.enter().is_ok();
            let second = other.enter().is_ok();
            assert!(first || !second, "it never opens again");
        });
        let leaver = thread::spawn(move || drop(pass));
        gate.close();
        block_on(gate.drained());
        leaver.join().unwrap();
        hammer.join().unwrap();
        assert!(gate.is_drained(), "and stays drained");
    });
}

#[test]
fn a_dropped_waiter_takes_no_wake_up_from_others() {
    check(|| {
        let gate = Gate::new();
        let pass = gate.enter().unwrap();
        let leaver = thread::spawn(move || drop(pass));
        {
            let waiting = gate.drained();
            let mut waiting = std::pin::pin!(waiting);
            let waker = std::task::Waker::noop();
            let _ = waiting
                .as_mut()
                .poll(&mut std::task::Context::from_waker(waker));
        }
        gate.close();
        block_on(gate.drained());
        leaver.join().unwrap();
    });
}

#[test]
fn a_core_is_recycled_exactly_once() {
    check(|| {
        let gate = Gate::new();
        let core = gate.handle.core;
        let pass = gate.enter().unwrap();
        let leaver = thread::spawn(move || drop(pass));
        drop(gate);
        leaver.join().unwrap();
        assert_eq!(core.recycled.load(Ordering::SeqCst), 1);
    });
}

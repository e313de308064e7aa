//! A test that uses `record_drops` fails if it drops an owner whose shutdown was not awaited.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use lifecycle_runtime::testing::{UnawaitedDrop, record_drops};
use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use lifecycle_tests::{Probe, Trace};

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown]
    listener: Probe,
    #[shutdown]
    pool: Probe,
    #[shutdown(state)]
    state: ShutdownState,
}

fn server() -> Server {
    let trace = Trace::new();
    Server {
        listener: Probe::new(&trace, "listener"),
        pool: Probe::new(&trace, "pool").hang(),
        state: ShutdownState::new(),
    }
}

/// Runs `test` while `record_drops` is on. Returns the message with which the test fails, or `None` if it passes.
fn failure(test: impl FnOnce()) -> Option<String> {
    let ended = catch_unwind(AssertUnwindSafe(|| {
        let _drops = record_drops();
        test();
    }));
    ended
        .err()
        .map(|payload| match payload.downcast::<String>() {
            Ok(text) => *text,
            Err(payload) => (*payload.downcast::<&str>().expect("a text")).into(),
        })
}

#[test]
fn a_drop_without_a_shutdown_fails_the_test_and_names_type_and_fields() {
    let text = failure(|| drop(server())).expect("it fails");
    for part in [
        "dropped without an awaited shutdown",
        "Server",
        "listener",
        "pool",
    ] {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
}

#[test]
fn only_the_fields_that_were_not_cleaned_are_named() {
    let drops = record_drops();
    let mut server = server();
    let mut shutdown = tokio_test::task::spawn(server.shutdown());
    tokio_test::assert_pending!(shutdown.poll());
    drop(shutdown);
    drop(server);
    let expected = UnawaitedDrop {
        component: "Server".into(),
        fields: vec!["pool".into()],
    };
    assert_eq!(drops.take(), [expected]);
}

#[test]
fn a_drop_that_the_test_took_is_allowed() {
    let drops = record_drops();
    drop(server());
    drop(server());
    assert_eq!(drops.take().len(), 2);
    assert!(drops.take().is_empty());
    drop(drops);
}

#[tokio::test]
async fn an_awaited_or_disarmed_owner_is_no_failure() {
    let drops = record_drops();
    let trace = Trace::new();
    let mut awaited = server();
    awaited.pool = Probe::new(&trace, "pool");
    assert!(awaited.shutdown().await.is_clean());
    drop(awaited);
    let mut disarmed = server();
    disarmed.state.disarm();
    drop(disarmed);
    assert!(drops.take().is_empty());
}

#[test]
fn a_test_that_panics_keeps_its_own_message() {
    let text = failure(|| {
        let _server = server();
        panic!("its own");
    });
    assert_eq!(text.as_deref(), Some("its own"));
}

#[test]
fn nothing_is_recorded_before_the_recording_after_it_or_on_other_threads() {
    drop(server());
    let drops = record_drops();
    thread::spawn(|| drop(server())).join().unwrap();
    assert!(drops.take().is_empty());
    drop(drops);
    drop(server());
    let again = record_drops();
    assert!(again.take().is_empty());
}

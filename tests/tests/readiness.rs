//! `Readiness` tells a probe whether the server should get requests.

use lifecycle_runtime::{
    GracefulShutdown, Readiness, ReadyState, Reason, Runner, ShutdownHandle, ShutdownState,
};
use tokio_test::task::spawn;
use tokio_test::{assert_pending, assert_ready};

#[test]
fn readiness_starts_unready_and_later_says_why_it_is_unready() {
    let readiness = Readiness::default();
    assert_eq!(readiness.state(), ReadyState::Starting);
    assert!(!readiness.is_ready());
    readiness.set_ready();
    assert!(readiness.is_ready());
    readiness.set_unready(format!("{} is away", "the database"));
    assert_eq!(
        readiness.state(),
        ReadyState::Unready("the database is away".into())
    );
    assert_eq!(
        readiness.state().to_string(),
        "not ready: the database is away"
    );
    readiness.set_ready();
    assert!(readiness.is_ready());
}

#[test]
fn clones_share_one_readiness() {
    let readiness = Readiness::new();
    let probe = readiness.clone();
    readiness.set_ready();
    assert!(probe.is_ready());
    drop(readiness);
    assert!(probe.is_ready());
}

#[test]
fn a_waiter_is_woken_by_the_next_change_and_not_by_a_repeat() {
    let readiness = Readiness::new();
    readiness.set_ready();
    let mut changed = spawn(readiness.changed());
    assert_pending!(changed.poll());
    readiness.set_ready();
    assert!(!changed.is_woken());
    readiness.set_unready("the database is away");
    assert!(changed.is_woken());
    assert_eq!(
        assert_ready!(changed.poll()),
        ReadyState::Unready("the database is away".into())
    );
}

#[test]
fn a_watch_misses_no_change_between_two_looks() {
    let readiness = Readiness::new();
    let mut watch = readiness.watch();
    readiness.set_ready();
    readiness.set_unready("the database is away");
    assert_ready!(spawn(watch.changed()).poll()).unwrap();
    assert_eq!(
        watch.borrow_and_update().to_string(),
        "not ready: the database is away"
    );
    assert_pending!(spawn(watch.changed()).poll());
}

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(state)]
    state: ShutdownState,
}

#[tokio::test]
async fn readiness_drains_before_main_gets_stop_and_has_stopped_after_the_plan() {
    let (readiness, handle) = (Readiness::new(), ShutdownHandle::new());
    let (seen, asked) = (readiness.clone(), handle.clone());
    let server = Server {
        state: ShutdownState::new(),
    };
    let runner = Runner::new(server).handle(&handle).readiness(&readiness);
    let report = runner
        .run(async move |_: &mut Server, stop| {
            seen.set_ready();
            asked.request(Reason::Requested);
            stop.cancelled().await;
            assert_eq!(seen.state(), ReadyState::Draining);
            seen.set_ready();
            assert!(!seen.is_ready(), "draining never becomes ready again");
        })
        .await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(readiness.state(), ReadyState::Stopped);
    readiness.set_unready("late");
    assert_eq!(readiness.state(), ReadyState::Stopped);
}

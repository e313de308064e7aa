//! Every outcome in the report is true: a step whose cleanup did not run to its end is never reported as done.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use lifecycle_runtime::testing::Interrupt;
use lifecycle_runtime::{
    BoxError, Component, Context, DynComponent, GracefulShutdown, Outcome, Runner, ShutdownHandle,
    ShutdownState, Stop,
};
use lifecycle_tests::{Probe, Trace, ms, secs};
use tokio_test::assert_pending;
use tokio_test::task::spawn;

#[derive(GracefulShutdown)]
#[shutdown(timeout = "60s")]
struct Owner<T: Component> {
    #[shutdown(required, leaf)]
    field: T,
    #[shutdown]
    last: Probe,
    #[shutdown(state)]
    state: ShutdownState,
}

fn owner<T: Component>(trace: &Trace, field: T) -> Owner<T> {
    Owner {
        field,
        last: Probe::new(trace, "last"),
        state: ShutdownState::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_field_is_skipped_and_the_report_stays_clean() {
    async fn check<T: Component>(empty: T) {
        let trace = Trace::new();
        let report = owner(&trace, empty).shutdown().await;
        let step = report.step("field").unwrap();
        assert!(matches!(step.outcome(), Outcome::Skipped), "{report}");
        assert_eq!(step.why(), Some("it was empty"));
        assert!(report.is_clean() && report.exit_code() == 0, "{report}");
        assert_eq!(trace.count("last ends"), 1, "a required field may be empty");
    }
    check(None::<Probe>).await;
    check(Box::new(None::<Probe>)).await;
    check(Box::new(None::<Probe>) as Box<dyn DynComponent>).await;
    check(Some(None::<Probe>)).await;
    check(Arc::new(std::sync::Mutex::new(None::<Probe>))).await;
    check(Arc::new(tokio::sync::RwLock::new(None::<Probe>))).await;
    check(tokio::sync::Mutex::new(None::<Probe>)).await;
}

#[tokio::test(start_paused = true)]
async fn an_empty_element_is_skipped_alone() {
    let trace = Trace::new();
    let list = vec![Some(Probe::new(&trace, "a")), None];
    let report = owner(&trace, list).shutdown().await;
    assert!(report.step("field[0]").unwrap().outcome().is_done());
    let nothing = report.step("field[1]").unwrap();
    assert!(matches!(nothing.outcome(), Outcome::Skipped), "{report}");
    assert!(report.is_clean(), "{report}");
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_was_shut_down_before_is_skipped_if_that_was_clean_and_failed_if_not() {
    let trace = Trace::new();
    let mut outer = owner(&trace, owner(&trace, Probe::new(&trace, "a")));
    outer.field.shutdown().await;
    let report = outer.shutdown().await;
    let step = report.step("field").unwrap();
    assert!(matches!(step.outcome(), Outcome::Skipped), "{report}");
    assert_eq!(step.why(), Some("it had been shut down before"));
    assert!(report.is_clean(), "{report}");

    let mut outer = owner(&trace, owner(&trace, Probe::new(&trace, "a").error("no")));
    outer.field.shutdown().await;
    let report = outer.shutdown().await;
    let step = report.step("field").unwrap();
    assert!(matches!(step.outcome(), Outcome::Failed(_)), "{report}");
    assert!(!report.is_clean(), "{report}");

    let mut outer = owner(&trace, owner(&trace, Probe::new(&trace, "a")));
    outer.field.state.disarm();
    let report = outer.shutdown().await;
    assert_eq!(report.step("field").unwrap().why(), Some("it was disarmed"));
}

#[tokio::test(start_paused = true)]
async fn a_skipped_step_says_which_required_step_is_not_done() {
    let trace = Trace::new();
    let report = owner(&trace, Probe::new(&trace, "a").error("no"))
        .shutdown()
        .await;
    let last = report.step("last").unwrap();
    assert!(matches!(last.outcome(), Outcome::Skipped), "{report}");
    assert_eq!(
        last.why(),
        Some("the required step `field` is not done: failed")
    );
    assert!(!last.is_clean() && report.exit_code() == 1);
    assert!(report.to_string().contains("the required step `field`"));
}

#[tokio::test(start_paused = true)]
async fn a_component_that_swallows_the_failure_of_a_part_leaves_the_report_unclean() {
    #[derive(GracefulShutdown)]
    #[shutdown(part)]
    struct Part {
        #[shutdown]
        probe: Probe,
    }
    struct Swallows(Part);
    impl Component for Swallows {
        async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
            let _ = self.0.cleanup(cx).await;
            Ok(())
        }
    }
    let trace = Trace::new();
    let probe = Probe::new(&trace, "a").error("the disk is full");
    let report = owner(&trace, Swallows(Part { probe })).shutdown().await;
    assert!(report.step("field").unwrap().outcome().is_done());
    assert!(!report.is_clean(), "{report}");
    let error = report.into_result().unwrap_err().to_string();
    assert!(
        error.contains("field.probe failed: the disk is full"),
        "{error}"
    );
}

struct Closes(Arc<AtomicUsize>);

impl Closes {
    async fn close(self) {
        tokio::time::sleep(ms(100)).await;
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn kill(self) {
        self.0.fetch_add(100, Ordering::Relaxed);
    }
}

#[derive(GracefulShutdown)]
struct Takes {
    #[shutdown(required)]
    first: Probe,
    #[shutdown(take, with = Closes::close, abort = Closes::kill)]
    value: Option<Closes>,
    #[shutdown(state)]
    state: ShutdownState,
}

fn takes(first: Probe) -> (Takes, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let takes = Takes {
        first,
        value: Some(Closes(Arc::clone(&calls))),
        state: ShutdownState::new(),
    };
    (takes, calls)
}

#[tokio::test(start_paused = true)]
async fn a_taken_value_that_was_lost_with_its_future_is_aborted() {
    let trace = Trace::new();
    let (mut server, calls) = takes(Probe::new(&trace, "first"));
    assert!(
        tokio::time::timeout(ms(20), server.shutdown())
            .await
            .is_err()
    );
    let report = server.shutdown().await;
    let step = report.step("value").unwrap();
    assert!(matches!(step.outcome(), Outcome::Aborted), "{report}");
    assert_eq!(
        step.why(),
        Some("its value was lost with the future that was dropped half-way")
    );
    assert!(!report.is_clean() && calls.load(Ordering::Relaxed) == 0);
}

#[tokio::test(start_paused = true)]
async fn a_new_value_does_not_make_up_for_a_lost_one() {
    let trace = Trace::new();
    let (mut server, calls) = takes(Probe::new(&trace, "first"));
    assert!(
        tokio::time::timeout(ms(20), server.shutdown())
            .await
            .is_err()
    );
    server.value = Some(Closes(Arc::clone(&calls)));
    let report = server.shutdown().await;
    assert_eq!(calls.load(Ordering::Relaxed), 1, "it is closed");
    let step = report.step("value").unwrap();
    assert!(matches!(step.outcome(), Outcome::Aborted), "{report}");
}

#[tokio::test(start_paused = true)]
async fn abort_and_release_consume_a_value_that_was_not_taken() {
    let trace = Trace::new();
    let (mut server, calls) = takes(Probe::new(&trace, "first").error("no"));
    server.shutdown().await;
    assert_eq!(calls.load(Ordering::Relaxed), 100, "skipped, so aborted");
    assert!(server.value.is_none());

    let (server, calls) = takes(Probe::new(&trace, "first"));
    drop(server);
    assert_eq!(calls.load(Ordering::Relaxed), 100);
}

#[derive(GracefulShutdown)]
struct OwnsARuntime {
    #[shutdown(
        take,
        blocking,
        with = |runtime| drop(runtime),
        abort = tokio::runtime::Runtime::shutdown_background
    )]
    runtime: Option<tokio::runtime::Runtime>,
    #[shutdown(state)]
    state: ShutdownState,
}

#[tokio::test]
async fn a_runtime_in_a_field_survives_an_unawaited_drop_in_async_code() {
    let server = || OwnsARuntime {
        runtime: Some(tokio::runtime::Runtime::new().unwrap()),
        state: ShutdownState::new(),
    };
    drop(server());
    let report = server().shutdown().await;
    assert!(report.is_clean(), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_hurry_aborts_best_effort_steps_and_the_rest_runs_with_its_own_time() {
    #[derive(GracefulShutdown)]
    #[shutdown(timeout = "100s")]
    struct Server {
        #[shutdown(priority = 0, best_effort)]
        drain: Probe,
        #[shutdown(priority = 1, timeout = "5s")]
        save: Probe,
        #[shutdown(priority = 2, best_effort)]
        late: Probe,
        #[shutdown(priority = 3, best_effort)]
        ready: Probe,
        #[shutdown(state)]
        state: ShutdownState,
    }
    let trace = Trace::new();
    let server = Server {
        drain: Probe::new(&trace, "drain").hang().says("2 clients"),
        save: Probe::new(&trace, "save").sleep(secs(2)),
        late: Probe::new(&trace, "late").hang(),
        ready: Probe::new(&trace, "ready"),
        state: ShutdownState::new(),
    };
    let handle = ShutdownHandle::new();
    let run = Runner::new(server).handle(&handle);
    let mut run = spawn(run.run(async |_: &mut Server, stop: Stop| {
        stop.cancelled().await;
        // Without the hurry, the task would go on for a minute after its `stop`.
        tokio::time::sleep(secs(60)).await;
    }));
    handle.request(lifecycle_runtime::Reason::Requested);
    while handle.progress().unfinished().is_empty() {
        assert_pending!(run.poll());
        tokio::task::yield_now().await;
    }
    tokio::time::advance(secs(1)).await;
    handle.hurry();
    let report = run.await;
    let outcome = |path| report.step(path).unwrap().outcome().clone();
    assert!(matches!(outcome("main"), Outcome::Aborted), "{report}");
    assert!(matches!(outcome("drain"), Outcome::Aborted), "{report}");
    assert!(outcome("save").is_done(), "{report}");
    assert!(matches!(outcome("late"), Outcome::Aborted), "{report}");
    assert!(
        outcome("ready").is_done(),
        "polled once, and that is enough"
    );
    assert_eq!(
        report.step("drain").unwrap().why(),
        Some("the shutdown was hurried, while it was waiting for 2 clients")
    );
    assert!(report.was_hurried() && report.forced().is_none());
    assert_eq!(report.exit_code(), 1, "main was cut: {report}");
    assert_eq!(report.elapsed(), secs(3), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_main_that_never_looked_at_stop_is_aborted() {
    let trace = Trace::new();
    let handle = ShutdownHandle::new();
    let server = owner(&trace, Probe::new(&trace, "a"));
    handle.request(lifecycle_runtime::Reason::Requested);
    let report = Runner::new(server)
        .handle(&handle)
        .run(async |_: &mut Owner<Probe>, _: Stop| std::future::pending::<()>().await)
        .await;
    let main = report.step("main").unwrap();
    assert!(matches!(main.outcome(), Outcome::Aborted), "{report}");
    assert_eq!(
        main.why(),
        Some("it never looked at `stop`, so it could not know that it should end")
    );
}

#[tokio::test(start_paused = true)]
async fn a_hurry_and_a_forced_end_wake_the_shutdown() {
    #[derive(GracefulShutdown)]
    struct Server {
        #[shutdown(best_effort)]
        cache: Probe,
        #[shutdown]
        pool: Probe,
        #[shutdown(state)]
        state: ShutdownState,
    }
    let trace = Trace::new();
    let mut server = Server {
        cache: Probe::new(&trace, "cache").hang(),
        pool: Probe::new(&trace, "pool").hang(),
        state: ShutdownState::new(),
    };
    assert_pending!(spawn(server.shutdown()).poll());
    let interrupt = Interrupt::of(&server.state).unwrap();
    let mut shutdown = spawn(server.shutdown());
    assert_pending!(shutdown.poll());
    assert!(!shutdown.is_woken());
    interrupt.hurry();
    assert!(shutdown.is_woken());
    assert_pending!(shutdown.poll());
    assert_eq!(trace.count("cache aborts"), 1);
    assert!(!shutdown.is_woken());
    interrupt.force();
    assert!(shutdown.is_woken());
    assert!(shutdown.poll().is_ready());
    assert_eq!(trace.count("pool aborts"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_part_that_its_component_abandoned_times_out_with_the_step() {
    #[derive(GracefulShutdown)]
    #[shutdown(part)]
    struct Part {
        #[shutdown]
        begun: Probe,
        #[shutdown]
        next: Probe,
    }
    /// A component that polls the cleanup of its part once, and then waits for something else.
    struct Forgets(Part);
    impl Component for Forgets {
        async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
            let mut cleanup = pin!(self.0.cleanup(cx));
            poll_fn(|cx| {
                assert!(cleanup.as_mut().poll(cx).is_pending());
                Poll::Ready(())
            })
            .await;
            std::future::pending().await
        }
    }
    let trace = Trace::new();
    let forgets = Forgets(Part {
        begun: Probe::new(&trace, "begun").hang(),
        next: Probe::new(&trace, "next"),
    });
    let report = owner(&trace, forgets).shutdown().await;
    let outcome = |path| report.step(path).unwrap().outcome();
    let timed_out = |path| matches!(outcome(path), Outcome::TimedOut { .. });
    assert!(timed_out("field") && timed_out("field.begun"), "{report}");
    assert!(
        matches!(outcome("field.next"), Outcome::Skipped),
        "{report}"
    );
}

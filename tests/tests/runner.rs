//! A runner fires `stop`, awaits main, runs the plan, and chooses the exit code.

use std::future::pending;
use std::sync::mpsc;
use std::time::Duration;

use lifecycle_runtime::{
    BoxError, GracefulShutdown, Outcome, Reason, Report, Runner, ShutdownHandle, ShutdownState,
    Stop, run,
};
use lifecycle_tests::{Event, Logs, Probe, Trace, ms, secs};
use tokio::runtime::Handle;
use tokio::time::sleep;

#[derive(GracefulShutdown)]
#[shutdown(timeout = "10s")]
struct Server {
    trace: Trace,
    #[shutdown(timeout = "3s")]
    pool: Probe,
    #[shutdown(state)]
    state: ShutdownState,
}

fn server(trace: &Trace) -> Server {
    Server {
        trace: trace.clone(),
        pool: Probe::new(trace, "pool"),
        state: ShutdownState::new(),
    }
}

fn requested() -> ShutdownHandle {
    let handle = ShutdownHandle::new();
    handle.request(Reason::Requested);
    handle
}

fn outcome<'a>(report: &'a Report, step: &str) -> &'a Outcome {
    report
        .step(step)
        .unwrap_or_else(|| panic!("no `{step}`: {report}"))
        .outcome()
}

/// A value that records its drop in the trace.
struct Dropped(Trace, &'static str);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.add(self.1);
    }
}

#[tokio::test(start_paused = true)]
async fn main_gets_stop_and_is_awaited_as_the_step_main_before_the_plan() {
    let trace = Trace::new();
    let handle = ShutdownHandle::new();
    let asks = handle.clone();
    let report = Runner::new(server(&trace))
        .handle(&handle)
        .run(async |server: &mut Server, stop: Stop| {
            server.trace.add("main serves");
            assert!(asks.request(Reason::Requested));
            stop.cancelled().await;
            server.trace.add("main is told");
            sleep(secs(2)).await;
            server.trace.add("main ends");
        })
        .await;
    assert_eq!(
        trace.all(),
        [
            "main serves",
            "main is told",
            "main ends",
            "pool begins",
            "pool ends"
        ]
    );
    assert!(report.is_clean(), "{report}");
    let names: Vec<_> = report
        .steps()
        .iter()
        .map(|step| (step.name(), step.elapsed()))
        .collect();
    assert_eq!(names, [("main", secs(2)), ("pool", secs(0))]);
    assert!(matches!(report.reason(), Reason::Requested));
    assert_eq!(report.exit_code(), 0);
}

#[tokio::test(start_paused = true)]
async fn main_is_awaited_until_the_plan_needs_the_rest_and_then_times_out() {
    let trace = Trace::new();
    let mut server = server(&trace);
    server.pool = Probe::new(&trace, "pool").hang();
    let report = Runner::new(server)
        .handle(&requested())
        .run(async |server: &mut Server, stop: Stop| {
            let _dropped = Dropped(server.trace.clone(), "main is dropped");
            stop.cancelled().await;
            pending::<()>().await;
        })
        .await;
    assert!(
        matches!(outcome(&report, "main"), Outcome::TimedOut { .. }),
        "{report}"
    );
    assert_eq!(
        report.step("main").unwrap().elapsed(),
        secs(7),
        "10 s less what the plan needs"
    );
    assert_eq!(
        report.step("pool").unwrap().elapsed(),
        secs(3),
        "the plan has all of its own"
    );
    assert_eq!(trace.all()[..2], ["main is dropped", "pool begins"]);
    assert_eq!(report.exit_code(), 1);
}

#[tokio::test(start_paused = true)]
async fn main_gets_a_share_of_the_time_when_the_plan_needs_all_of_it() {
    #[derive(GracefulShutdown)]
    #[shutdown(timeout = "10s")]
    struct Full {
        #[shutdown(timeout = "9500ms")]
        pool: Probe,
        #[shutdown(state)]
        state: ShutdownState,
    }
    let trace = Trace::new();
    let full = Full {
        pool: Probe::new(&trace, "pool").hang(),
        state: ShutdownState::new(),
    };
    let report = Runner::new(full)
        .handle(&requested())
        .run(async |_: &mut Full, stop: Stop| {
            stop.cancelled().await;
            pending::<()>().await;
        })
        .await;
    let main = report.step("main").unwrap().elapsed();
    assert!(
        main > ms(900) && main < ms(1_000),
        "1 s of 10.5 s, of the 10 s there are: {report}"
    );
    assert_eq!(report.elapsed(), secs(10), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_main_that_never_looked_at_stop_is_dropped_at_once() {
    let trace = Trace::new();
    let report = Runner::new(server(&trace))
        .handle(&requested())
        .run(async |server: &mut Server, _stop| {
            let _dropped = Dropped(server.trace.clone(), "main is dropped");
            pending::<()>().await;
        })
        .await;
    assert_eq!(report.step("main").unwrap().elapsed(), secs(0), "{report}");
    assert_eq!(trace.all(), ["main is dropped", "pool begins", "pool ends"]);
}

#[tokio::test(start_paused = true)]
async fn a_main_may_be_a_loop_without_an_end() {
    let trace = Trace::new();
    let report = Runner::new(server(&trace))
        .handle(&requested())
        .run(async |_: &mut Server, _| {
            loop {
                sleep(secs(1)).await;
            }
        })
        .await;
    assert_eq!(trace.count("pool ends"), 1);
    assert_eq!(report.elapsed(), secs(0), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_main_that_ends_begins_the_shutdown() {
    let trace = Trace::new();
    let report = run(server(&trace), async |_: &mut Server, _| {}).await;
    assert!(matches!(report.reason(), Reason::MainEnded), "{report}");
    assert!(outcome(&report, "main").is_done());
    assert_eq!(report.exit_code(), 0);
    assert_eq!(trace.count("pool ends"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_main_that_fails_begins_the_shutdown_and_the_exit_code_is_1() {
    let trace = Trace::new();
    let report = run(server(&trace), async |_: &mut Server, _| {
        Err::<(), _>("no port")
    })
    .await;
    assert_eq!(report.reason().to_string(), "main failed: no port");
    assert!(
        matches!(outcome(&report, "main"), Outcome::Failed(_)),
        "{report}"
    );
    assert_eq!(report.exit_code(), 1);
    assert_eq!(trace.count("pool ends"), 1, "the plan runs all the same");
}

#[tokio::test(start_paused = true)]
async fn a_main_that_panics_begins_the_shutdown_and_the_exit_code_is_101() {
    let trace = Trace::new();
    let report = run(server(&trace), async |_: &mut Server, _| -> () {
        panic!("no port")
    })
    .await;
    assert_eq!(report.reason().to_string(), "main panicked: no port");
    assert!(
        matches!(outcome(&report, "main"), Outcome::Panicked(message) if message == "no port"),
        "{report}"
    );
    assert_eq!(report.exit_code(), 101);
    assert_eq!(trace.count("pool ends"), 1, "the plan runs all the same");
}

#[tokio::test(start_paused = true)]
async fn a_main_that_fails_after_stop_keeps_the_reason_and_its_failure_counts() {
    for (code, fails) in [(1, true), (101, false)] {
        let trace = Trace::new();
        let report = Runner::new(server(&trace))
            .handle(&requested())
            .run(async |_: &mut Server, stop: Stop| -> Result<(), BoxError> {
                stop.cancelled().await;
                if fails {
                    Err("half a batch".into())
                } else {
                    panic!("half a batch")
                }
            })
            .await;
        assert!(matches!(report.reason(), Reason::Requested), "{report}");
        assert!(!outcome(&report, "main").is_done(), "{report}");
        assert_eq!(report.exit_code(), code);
        assert_eq!(trace.count("pool ends"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_that_is_called_main_is_not_main() {
    #[derive(GracefulShutdown)]
    struct Odd {
        #[shutdown]
        main: Probe,
        #[shutdown(state)]
        state: ShutdownState,
    }
    let trace = Trace::new();
    let mut odd = Odd {
        main: Probe::new(&trace, "main").panic("no"),
        state: ShutdownState::new(),
    };
    assert_eq!(odd.shutdown().await.exit_code(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_drop_of_main_is_contained() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("the drop of main");
        }
    }
    let trace = Trace::new();
    let report = Runner::new(server(&trace))
        .handle(&requested())
        .run(async |_: &mut Server, _stop| {
            let _bomb = Bomb;
            pending::<()>().await;
        })
        .await;
    assert_eq!(trace.count("pool ends"), 1);
    assert!(!report.is_clean());
}

#[tokio::test(start_paused = true)]
async fn the_first_reason_wins() {
    let trace = Trace::new();
    let handle = ShutdownHandle::new();
    let asks = handle.clone();
    let report = Runner::new(server(&trace))
        .handle(&handle)
        .run(async |_: &mut Server, _| {
            assert!(asks.request(Reason::MainEnded));
            assert!(!asks.request(Reason::Requested), "somebody was first");
            Err::<(), _>("later")
        })
        .await;
    assert!(matches!(report.reason(), Reason::MainEnded), "{report}");
    assert_eq!(report.exit_code(), 1, "main failed");
}

#[tokio::test(start_paused = true)]
async fn cancelling_mains_stop_or_a_handles_token_requests_no_shutdown() {
    let trace = Trace::new();
    let handle = ShutdownHandle::new();
    let token = handle.token();
    let report = Runner::new(server(&trace))
        .handle(&handle)
        .run(async |_: &mut Server, stop: Stop| {
            stop.token().cancel();
            token.cancel();
            sleep(secs(5)).await;
            Err::<(), _>("it went on for 5 s")
        })
        .await;
    assert_eq!(
        report.reason().to_string(),
        "main failed: it went on for 5 s"
    );
    let report = Runner::new(server(&trace))
        .handle(&handle)
        .run_until_signal()
        .await;
    assert!(
        matches!(report.reason(), Reason::MainFailed(_)),
        "the handle keeps the first reason: {report}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_reaches_every_clone_of_a_handle() {
    let trace = Trace::new();
    let handle = ShutdownHandle::new();
    let (waits, token) = (handle.clone(), handle.token());
    let told = tokio::spawn(async move { waits.requested().await.to_string() });
    assert!(!handle.is_requested());
    let runs = tokio::spawn(
        Runner::new(server(&trace))
            .handle(&handle)
            .run_until_signal(),
    );
    tokio::task::yield_now().await;
    handle.request(Reason::Requested);
    assert!(handle.is_requested() && token.is_cancelled());
    assert_eq!(told.await.unwrap(), "requested");
    assert!(runs.await.unwrap().is_clean());
}

#[tokio::test(start_paused = true)]
async fn the_server_is_dropped_before_the_hooks_that_end_logs() {
    struct Owns(Dropped);
    impl lifecycle_runtime::Component for Owns {
        async fn cleanup(&mut self, _: &lifecycle_runtime::Context) -> Result<(), BoxError> {
            self.0.0.add("owns ends");
            Ok(())
        }
    }
    #[derive(GracefulShutdown)]
    struct Server {
        #[shutdown]
        owns: Owns,
        #[shutdown(state)]
        state: ShutdownState,
    }
    let trace = Trace::new();
    let server = Server {
        owns: Owns(Dropped(trace.clone(), "owns is dropped")),
        state: ShutdownState::new(),
    };
    let (first, second) = (trace.clone(), trace.clone());
    let report = Runner::new(server)
        .finally(move |report| first.add(format!("finally {}", report.exit_code())))
        .finally(|_| panic!("a hook"))
        .finally(move |_| second.add("finally again"))
        .exit_code(|report| 40 + report.exit_code())
        .run(async |_: &mut Server, _| Err::<(), _>("no"))
        .await;
    assert_eq!(
        trace.all(),
        [
            "owns ends",
            "owns is dropped",
            "finally 41",
            "finally again"
        ]
    );
    assert_eq!(report.exit_code(), 41);
}

#[tokio::test(start_paused = true)]
async fn a_finally_hook_that_hangs_is_left_behind_with_a_row_that_is_not_clean() {
    let trace = Trace::new();
    let (release, held) = mpsc::channel::<()>();
    let (logs, guard) = Logs::capture();
    let report = Runner::new(server(&trace))
        .finally(move |_| {
            // The hook blocks until the test has the report, which is longer than `finally_timeout`.
            let _ = held.recv();
        })
        .finally_timeout(Duration::from_millis(20))
        .run(async |_: &mut Server, _| {})
        .await;
    drop(guard);
    let row = report.step("finally").unwrap();
    assert_eq!(
        row.outcome().to_string(),
        "timed out: waiting for its hooks, which are left behind"
    );
    assert!(!report.is_clean() && report.exit_code() == 1, "{report}");
    let left = |event: &Event| event.name.contains("`finally` hooks outlasted");
    assert!(logs.all().iter().any(left), "{logs:#?}");
    drop(release);
}

#[tokio::test(start_paused = true)]
async fn a_finally_hook_that_panics_has_a_row_that_is_not_clean() {
    let trace = Trace::new();
    let report = Runner::new(server(&trace))
        .finally(|_| {})
        .run(async |_: &mut Server, _| {})
        .await;
    assert!(
        report.step("finally").is_none() && report.is_clean(),
        "{report}"
    );

    let report = Runner::new(server(&trace))
        .finally(|_| panic!("the exporter"))
        .run(async |_: &mut Server, _| {})
        .await;
    let outcome = report.step("finally").unwrap().outcome().to_string();
    assert_eq!(outcome, "panicked: the exporter");
    assert_eq!(report.exit_code(), 1);
}

#[derive(GracefulShutdown)]
struct Slow {
    #[expect(dead_code, reason = "it is dropped")]
    held: Held,
    #[shutdown(state)]
    state: ShutdownState,
}

/// A value whose drop blocks or panics, as its variant says.
enum Held {
    Blocks,
    Panics,
}

impl Drop for Held {
    fn drop(&mut self) {
        match self {
            Self::Blocks => std::thread::sleep(Duration::from_millis(20)),
            Self::Panics => panic!("the drop of a field"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_whose_drop_blocks_or_panics_has_a_row_for_it() {
    let slow = |held| {
        let state = ShutdownState::new();
        Runner::new(Slow { held, state }).run(async |_: &mut Slow, _| {})
    };
    let report = slow(Held::Blocks).await;
    let row = report.step("drop").unwrap();
    assert!(row.outcome().is_done() && report.is_clean(), "{report}");
    assert!(row.why().unwrap().starts_with("it blocked its thread for "));

    let report = slow(Held::Panics).await;
    let outcome = report.step("drop").unwrap().outcome().to_string();
    assert_eq!(outcome, "panicked: the drop of a field");
    assert_eq!(report.exit_code(), 1, "{report}");
}

#[tokio::test(start_paused = true)]
async fn tasks_that_no_field_owns_are_noted() {
    let trace = Trace::new();
    let before = Handle::current().metrics().num_alive_tasks();
    let task = tokio::spawn(std::future::pending::<()>());
    let report = Runner::new(server(&trace))
        .run(async |_: &mut Server, _| {})
        .await;
    assert_eq!(report.tasks_left(), before + 1, "{report}");
    assert!(report.is_clean(), "{report}");
    assert!(
        report
            .to_string()
            .contains("note: the runtime still has 1 task")
    );
    task.abort();
    let _ = task.await;
    let report = Runner::new(server(&trace))
        .run(async |_: &mut Server, _| {})
        .await;
    assert_eq!(report.tasks_left(), before);
}

#[tokio::test(start_paused = true)]
async fn an_exit_code_closure_that_panics_leaves_the_reports_exit_code() {
    let trace = Trace::new();
    let report = Runner::new(server(&trace))
        .exit_code(|_| panic!("no choice"))
        .run(async |_: &mut Server, _| Err::<(), _>("no"))
        .await;
    assert_eq!(report.exit_code(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_that_main_awaited_itself_is_in_the_report() {
    let trace = Trace::new();
    let report = run(server(&trace), async |server: &mut Server, _| {
        assert!(server.shutdown().await.is_clean());
        Err::<(), _>("after it")
    })
    .await;
    assert_eq!(
        (trace.count("pool begins"), trace.count("pool ends")),
        (1, 1)
    );
    let names: Vec<_> = report.steps().iter().map(|step| step.name()).collect();
    assert_eq!(names, ["main", "pool"]);
    assert_eq!(report.exit_code(), 1, "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_runner_that_is_dropped_drops_main_and_the_server_logs_its_drop() {
    let trace = Trace::new();
    let (logs, guard) = Logs::capture();
    let handle = ShutdownHandle::new();
    let mut run = tokio_test::task::spawn(Runner::new(server(&trace)).handle(&handle).run(
        async |server: &mut Server, stop: Stop| {
            let _dropped = Dropped(server.trace.clone(), "main is dropped");
            server.trace.add("main serves");
            stop.cancelled().await;
        },
    ));
    // The runner starts main only after its signal thread has registered the signals. So the test polls until main
    // serves.
    while trace.count("main serves") == 0 {
        assert!(run.poll().is_pending());
        tokio::task::yield_now().await;
    }
    drop((run, guard));
    assert_eq!(
        trace.all(),
        ["main serves", "main is dropped", "pool releases"]
    );
    assert_eq!(logs.only("dropped_unshut").field("fields"), "pool");
}

#[test]
fn block_on_creates_its_own_runtime() {
    let trace = Trace::new();
    let report = Runner::new(server(&trace))
        .block_on(async |_: &mut Server, _| tokio::spawn(async {}).await.map_err(BoxError::from));
    assert!(report.is_clean(), "{report}");
    assert_eq!(trace.all(), ["pool begins", "pool ends"]);
}

#[tokio::test(start_paused = true)]
async fn runners_may_follow_each_other_and_run_side_by_side() {
    let trace = Trace::new();
    for _ in 0..3 {
        assert!(
            run(server(&trace), async |_: &mut Server, _| {})
                .await
                .is_clean()
        );
    }
    let side = || {
        tokio::spawn(run(server(&trace), async |_: &mut Server, _| {
            sleep(secs(1)).await
        }))
    };
    let (one, two) = tokio::join!(side(), side());
    assert!(one.unwrap().is_clean() && two.unwrap().is_clean());
    assert_eq!(trace.count("pool ends"), 5);
}

#[tokio::test(start_paused = true)]
async fn a_main_that_panics_before_it_returns_its_future_is_contained() {
    fn never(_: &mut Server, _: Stop) -> std::future::Ready<()> {
        panic!("no port")
    }
    let trace = Trace::new();
    let report = run(server(&trace), never).await;
    assert_eq!(report.reason().to_string(), "main panicked: no port");
    assert_eq!(report.exit_code(), 101);
    assert_eq!(trace.count("pool ends"), 1, "the plan runs all the same");
}

#[tokio::test(start_paused = true)]
async fn an_error_of_main_that_panics_when_it_is_shown_is_contained() {
    #[derive(Debug)]
    struct Bad;
    impl std::fmt::Display for Bad {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("the text of an error")
        }
    }
    impl std::error::Error for Bad {}
    let trace = Trace::new();
    let (logs, _guard) = Logs::capture();
    let report = run(server(&trace), async |_: &mut Server, _| Err::<(), _>(Bad)).await;
    assert_eq!(logs.named("shutdown_begin").len(), 1, "{logs:#?}");
    assert_eq!(report.exit_code(), 1);
    assert_eq!(trace.count("pool ends"), 1);
}

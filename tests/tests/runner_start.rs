//! The runner registers signals before it starts the server. If the start does not finish, it is undone.

use std::future::pending;
use std::time::Duration;

use lifecycle_runtime::{
    BoxError, FailedStart, GracefulShutdown, Outcome, Readiness, ReadyState, Reason, Report,
    Runner, ShutdownHandle, ShutdownState, Stop,
};
use lifecycle_tests::{Ended, Logs, Probe, Process, Trace, ms, secs};
use rustix::process::Signal;
use tokio::time::sleep;

#[derive(GracefulShutdown)]
#[shutdown(timeout = "10s")]
struct Server {
    #[shutdown(priority = 0)]
    listener: Option<Probe>,
    #[shutdown(priority = 1)]
    pool: Option<Probe>,
    #[shutdown(priority = 2)]
    log: Option<Probe>,
    #[shutdown(state)]
    state: ShutdownState,
}

fn server(trace: &Trace) -> Server {
    Server {
        listener: Some(Probe::new(trace, "listener")),
        pool: Some(Probe::new(trace, "pool")),
        log: Some(Probe::new(trace, "log")),
        state: ShutdownState::new(),
    }
}

/// A value that records its drop in the trace.
struct Dropped(Trace, &'static str);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.add(self.1);
    }
}

async fn never_main(_: &mut Server, _: Stop) {
    panic!("main runs without a server");
}

fn start_server(how: &str) -> Process {
    Process::start(env!("CARGO_BIN_EXE_signalled"), &[how])
}

fn assert_nothing_is_left(report: &Report) {
    assert!(report.steps().is_empty(), "{report}");
    assert_eq!(report.component(), "Server");
}

#[test]
fn signals_are_registered_before_the_start() {
    let ended = start_server("signal-in-start").end();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(ended.says(&["reason: SIGTERM"]), "{ended:#?}");
    assert!(ended.says(&["store closed"]), "{ended:#?}");
    assert!(!ended.says(&["serving"]), "main never ran: {ended:#?}");
}

#[test]
fn after_a_signal_the_start_returns_its_server_which_is_cleaned() {
    let mut server = start_server("start");
    server.wait_for("starting");
    server.signal(Signal::TERM);
    let ended = server.end();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(
        ended.says(&["store closed"]) && !ended.says(&["store dropped"]),
        "{ended:#?}"
    );
    assert!(!ended.says(&["serving"]), "main never ran: {ended:#?}");
}

#[test]
fn a_second_signal_cuts_a_start_that_goes_on() {
    let mut server = start_server("start-goes-on");
    server.wait_for("starting");
    server.signal(Signal::TERM);
    server.wait_for("told");
    std::thread::sleep(ms(600)); // More than the 500 ms in which a signal counts as a repeat.
    server.signal(Signal::TERM);
    let ended = server.end();
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    assert!(ended.says(&["start", "aborted"]), "{ended:#?}");
    assert!(ended.says(&["store dropped"]), "{ended:#?}");
}

#[test]
fn a_third_signal_forces_the_end_of_a_start_that_holds_the_executor() {
    let mut server = start_server("start-holds");
    server.wait_for("starting");
    for _ in 0..3 {
        server.signal(Signal::TERM);
        std::thread::sleep(ms(600)); // More than the 500 ms in which a signal counts as a repeat.
    }
    let ended = server.end();
    assert_eq!(ended.code, Some(128 + 15), "{ended:#?}");
    assert!(ended.says(&["the start blocks the executor"]), "{ended:#?}");
}

fn assert_failed(ended: &Ended) {
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    assert!(
        ended.says(&["reason: the start failed: the port is taken"]),
        "{ended:#?}"
    );
    assert!(!ended.says(&["serving"]), "main never ran: {ended:#?}");
}

#[test]
fn a_process_whose_start_fails_drops_what_it_built_and_exits_with_1() {
    let ended = start_server("failed-start").end();
    assert_failed(&ended);
    assert!(ended.says(&["store dropped"]), "{ended:#?}");
}

#[test]
fn a_process_whose_start_fails_with_a_server_cleans_it_and_exits_with_1() {
    let ended = start_server("failed-start-with-server").end();
    assert_failed(&ended);
    assert!(
        ended.says(&["store closed"]) && !ended.says(&["store dropped"]),
        "{ended:#?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_built_server_is_run_and_shut_down_like_a_given_one() {
    let trace = Trace::new();
    let report = Runner::build(async |_| {
        sleep(secs(3)).await;
        Ok::<_, BoxError>(server(&trace))
    })
    .run(async |server: &mut Server, _: Stop| assert!(server.pool.is_some()))
    .await;
    assert!(report.is_clean(), "{report}");
    assert!(matches!(report.reason(), Reason::MainEnded), "{report}");
    assert_eq!(trace.when("listener begins"), secs(3));
    assert_eq!(report.steps().len(), 4, "main and the plan: {report}");
}

/// Waits until `stop` fires, and builds a server the time `later` after that.
async fn build_after_stop(trace: &Trace, stop: Stop, later: Duration) -> Server {
    stop.cancelled().await;
    trace.add("told");
    sleep(later).await;
    server(trace)
}

#[tokio::test(start_paused = true)]
async fn a_server_that_the_start_returns_after_stop_is_cleaned_by_its_plan() {
    let trace = Trace::new();
    let handle = ShutdownHandle::new();
    handle.request(Reason::Requested);
    let report = Runner::build(async |stop| {
        let built = build_after_stop(&trace, stop, secs(4)).await;
        Ok::<_, BoxError>(built)
    })
    .handle(&handle)
    .run(never_main)
    .await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.exit_code(), 0);
    assert!(matches!(report.reason(), Reason::Requested), "{report}");
    let start = report.step("start").unwrap();
    assert!(start.outcome().is_done(), "{report}");
    assert_eq!(start.elapsed(), secs(4));
    assert_eq!(start.budget(), secs(5));
    assert!(report.step("main").is_none(), "{report}");
    assert_eq!(trace.count("log ends"), 1);
    assert_eq!(report.step("listener").unwrap().started(), secs(4));
}

#[tokio::test(start_paused = true)]
async fn an_error_that_the_start_returns_after_stop_is_its_steps_outcome() {
    let handle = ShutdownHandle::new();
    handle.request(Reason::Requested);
    let report = Runner::build(async |stop: Stop| {
        stop.cancelled().await;
        Err::<Server, _>("half of the migration ran")
    })
    .handle(&handle)
    .run(never_main)
    .await;
    assert!(matches!(report.reason(), Reason::Requested), "{report}");
    let start = report.step("start").unwrap().outcome().to_string();
    assert_eq!(start, "failed: half of the migration ran");
    assert_eq!(report.exit_code(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_server_of_an_error_that_the_start_returns_after_stop_is_cleaned() {
    let trace = Trace::new();
    let handle = ShutdownHandle::new();
    handle.request(Reason::Requested);
    let report = Runner::build(async |stop| {
        let built = build_after_stop(&trace, stop, secs(1)).await;
        Err(FailedStart::new(built, "no route"))
    })
    .handle(&handle)
    .run(never_main)
    .await;
    assert_eq!(trace.count("log ends"), 1);
    let start = report.step("start").unwrap().outcome().to_string();
    assert_eq!(start, "failed: no route");
    assert!(!report.is_clean(), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_start_that_goes_on_after_stop_is_dropped_after_5_s() {
    let trace = Trace::new();
    let handle = ShutdownHandle::new();
    handle.request(Reason::Requested);
    let drops = trace.clone();
    let report = Runner::build(async move |_| {
        let _dropped = Dropped(drops, "the start is dropped");
        pending::<Result<Server, BoxError>>().await
    })
    .handle(&handle)
    .run(never_main)
    .await;
    assert_eq!(trace.when("the start is dropped"), secs(5));
    let start = report.step("start").unwrap();
    assert!(
        matches!(start.outcome(), Outcome::TimedOut { .. }),
        "{report}"
    );
    assert_eq!(report.elapsed(), secs(5));
    assert_eq!(
        report.exit_code(),
        1,
        "the start may have been doing anything"
    );
}

#[tokio::test(start_paused = true)]
async fn the_time_of_a_start_after_stop_can_be_set() {
    let handle = ShutdownHandle::new();
    handle.request(Reason::Requested);
    let report = Runner::build(async |_| pending::<Result<Server, BoxError>>().await)
        .handle(&handle)
        .start_stop_timeout(secs(2))
        .run(never_main)
        .await;
    assert_eq!(report.step("start").unwrap().elapsed(), secs(2));
}

#[tokio::test(start_paused = true)]
async fn a_hurry_cuts_a_start_that_goes_on() {
    let handle = ShutdownHandle::new();
    handle.request(Reason::Requested);
    let hurries = handle.clone();
    let report = Runner::build(async move |_| {
        // The start itself calls `hurry`, since paused time advances while the runner registers signals.
        sleep(secs(1)).await;
        hurries.hurry();
        pending::<Result<Server, BoxError>>().await
    })
    .handle(&handle)
    .run(never_main)
    .await;
    let start = report.step("start").unwrap();
    assert!(matches!(start.outcome(), Outcome::Aborted), "{report}");
    assert_eq!(start.elapsed(), secs(1));
    assert!(report.was_hurried());
    assert_eq!(report.exit_code(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_takes_too_long_gets_stop_and_its_server_is_cleaned() {
    let trace = Trace::new();
    let report = Runner::build(async |stop| {
        let built = build_after_stop(&trace, stop, secs(1)).await;
        Ok::<_, BoxError>(built)
    })
    .start_timeout(secs(30))
    .run(never_main)
    .await;
    assert_eq!(trace.when("told"), secs(30));
    assert_eq!(
        report.reason().to_string(),
        "the start failed: it took more than 30.00 s"
    );
    assert_eq!(trace.count("log ends"), 1);
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.exit_code(), 1, "a failed start");
}

#[tokio::test(start_paused = true)]
async fn a_start_may_watch_the_handle_itself() {
    let trace = Trace::new();
    let handle = ShutdownHandle::new();
    let (asks, watches) = (handle.clone(), handle.clone());
    let report = Runner::build(async |_| {
        tokio::spawn(async move {
            sleep(secs(1)).await;
            asks.request(Reason::Requested);
        });
        watches.requested().await;
        Ok::<_, BoxError>(server(&trace))
    })
    .handle(&handle)
    .run(async |_: &mut Server, stop: Stop| stop.cancelled().await)
    .await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(trace.count("log ends"), 1);
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_a_start_drops_without_a_shutdown_is_a_row_and_not_clean() {
    let trace = Trace::new();
    let handle = ShutdownHandle::new();
    handle.request(Reason::Requested);
    let report = Runner::build(async |_| {
        let _built = server(&trace);
        pending::<Result<Server, BoxError>>().await
    })
    .handle(&handle)
    .run(never_main)
    .await;
    let dropped = report.step("start.Server").expect("the owner has a row");
    assert!(matches!(dropped.outcome(), Outcome::Aborted), "{report}");
    assert_eq!(
        dropped.why(),
        Some("it was dropped without a shutdown, which left listener, pool, log")
    );
    assert_eq!(report.exit_code(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_stop_of_the_start_fires_together_with_mains() {
    let trace = Trace::new();
    let report = Runner::build(async |stop: Stop| {
        let tells = trace.clone();
        tokio::spawn(async move {
            stop.cancelled().await;
            tells.add("the task is told");
        });
        Ok::<_, BoxError>(server(&trace))
    })
    .run(async |_: &mut Server, _: Stop| {
        sleep(secs(2)).await;
        trace.add("main ends");
    })
    .await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(trace.all()[0], "main ends");
    assert_eq!(trace.count("the task is told"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_ready_when_the_request_comes_is_kept_and_cleaned() {
    let trace = Trace::new();
    let handle = ShutdownHandle::new();
    let asks = handle.clone();
    let report = Runner::build(async |_| {
        asks.request(Reason::Requested);
        Ok::<_, BoxError>(server(&trace))
    })
    .handle(&handle)
    .run(async |_: &mut Server, stop: Stop| stop.cancelled().await)
    .await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(trace.count("log ends"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failed_start_is_the_reason_and_leaves_nothing_behind() {
    let trace = Trace::new();
    let handle = ShutdownHandle::new();
    let readiness = Readiness::new();
    let drops = trace.clone();
    let ends = trace.clone();
    let report = Runner::build(async move |_| {
        let _dropped = Dropped(drops, "the unfinished start is dropped");
        Err::<Server, _>("the port is taken")
    })
    .handle(&handle)
    .readiness(&readiness)
    .finally(move |report| ends.add(format!("finally {}", report.exit_code())))
    .run(never_main)
    .await;
    assert_eq!(
        trace.all(),
        ["the unfinished start is dropped", "finally 1"]
    );
    assert_eq!(
        report.reason().to_string(),
        "the start failed: the port is taken"
    );
    assert_eq!(report.exit_code(), 1);
    assert_nothing_is_left(&report);
    assert_eq!(readiness.state(), ReadyState::Stopped);
    assert!(handle.is_requested(), "waiters are woken");
}

#[tokio::test(start_paused = true)]
async fn the_server_of_a_failed_start_is_cleaned_in_plan_order() {
    let trace = Trace::new();
    let report = Runner::build(async |_| {
        let mut built = server(&trace);
        built.listener = None;
        Err(FailedStart::new(built, "the port is taken"))
    })
    .run(never_main)
    .await;
    assert_eq!(
        trace.all(),
        ["pool begins", "pool ends", "log begins", "log ends"]
    );
    assert_eq!(
        report.reason().to_string(),
        "the start failed: the port is taken"
    );
    assert_eq!(report.exit_code(), 1, "although every step is done");
    assert!(report.step("main").is_none(), "{report}");
    assert!(report.is_clean(), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_failed_start_may_be_one_of_several_errors() {
    let trace = Trace::new();
    let report = Runner::build(async |_| -> Result<Server, BoxError> {
        let failed = FailedStart::new(server(&trace), std::io::Error::other("no route"));
        Err(failed.into())
    })
    .run(never_main)
    .await;
    assert_eq!(trace.count("log ends"), 1);
    assert_eq!(report.reason().to_string(), "the start failed: no route");
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_start_is_a_failed_start() {
    let trace = Trace::new();
    let drops = trace.clone();
    let report = Runner::build(async move |_| -> Result<Server, BoxError> {
        let _dropped = Dropped(drops, "the unfinished start is dropped");
        panic!("no configuration");
    })
    .run(never_main)
    .await;
    assert_eq!(
        report.reason().to_string(),
        "the start failed: panicked: no configuration"
    );
    assert_eq!(report.exit_code(), 1);
    assert_eq!(trace.all(), ["the unfinished start is dropped"]);
    assert_nothing_is_left(&report);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_the_start_drops_by_an_early_return_logs_its_drop() {
    let trace = Trace::new();
    let (logs, guard) = Logs::capture();
    let report = Runner::build(async |_| {
        let _built = server(&trace);
        Err::<Server, _>("the port is taken")
    })
    .run(never_main)
    .await;
    drop(guard);
    assert_eq!(
        logs.only("dropped_unshut").field("fields"),
        "listener, pool, log"
    );
    assert_eq!(
        trace.all(),
        ["listener releases", "pool releases", "log releases"]
    );
    assert_eq!(logs.only("shutdown_end").number("exit_code"), 1);
    assert_eq!(report.exit_code(), 1);
    assert!(report.step("start.Server").is_some(), "{report}");
    assert!(!report.is_clean(), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_step_that_fails_after_a_failed_start_is_in_the_report() {
    let trace = Trace::new();
    let report = Runner::build(async |_| {
        let mut built = server(&trace);
        built.pool = Some(Probe::new(&trace, "pool").error("no"));
        Err(FailedStart::new(built, "the port is taken"))
    })
    .run(never_main)
    .await;
    let pool = report.step("pool").unwrap().outcome();
    assert!(matches!(pool, Outcome::Failed(_)), "{report}");
    assert_eq!(trace.count("log ends"), 1);
}

//! A lame duck goes on serving while its clients learn that it shuts down.

use std::future::pending;

use lifecycle_runtime::{
    BoxError, FailedStart, GracefulShutdown, Outcome, Readiness, ReadyState, Reason, Runner,
    ShutdownHandle, ShutdownState, Signal, Stop,
};
use lifecycle_tests::{Logs, Probe, Process, Trace, ms, secs};
use rustix::process::Signal as Sent;
use tokio::time::{interval, sleep};
use tracing::Level;

#[derive(GracefulShutdown)]
#[shutdown(timeout = "10s")]
struct Server {
    trace: Trace,
    #[shutdown]
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

fn requested(reason: Reason) -> ShutdownHandle {
    let handle = ShutdownHandle::new();
    handle.request(reason);
    handle
}

fn sigterm() -> ShutdownHandle {
    requested(Reason::Signal(Signal::TERMINATE))
}

/// Serves until `stop` fires, and records that `stop` has fired.
async fn serve(server: &mut Server, stop: Stop) {
    stop.cancelled().await;
    server.trace.add("main is told");
}

fn serving(how: &str) -> Process {
    let mut server = Process::start(env!("CARGO_BIN_EXE_signalled"), &[how]);
    server.wait_for("serving");
    server
}

#[tokio::test(start_paused = true)]
async fn main_serves_for_the_minimum_and_then_gets_stop() {
    let trace = Trace::new();
    let report = Runner::new(server(&trace))
        .handle(&sigterm())
        .lame_duck(secs(7))
        .run(async |server: &mut Server, stop: Stop| {
            let mut requests = interval(secs(1));
            let mut answered = 0;
            while stop.run_until_cancelled(requests.tick()).await.is_some() {
                answered += 1;
            }
            server.trace.add(format!("{answered} requests"));
            server.trace.add("main is told");
        })
        .await;
    assert_eq!(trace.when("main is told"), secs(7));
    assert_eq!(trace.count("7 requests") + trace.count("8 requests"), 1);
    assert_eq!(trace.when("pool begins"), secs(7));
    assert!(report.is_clean(), "{report}");
    let names: Vec<_> = report.steps().iter().map(|step| step.name()).collect();
    assert_eq!(names, ["lame_duck", "main", "pool"]);
    let row = report.step("lame_duck").unwrap();
    assert!(row.outcome().is_done());
    assert_eq!(
        (row.started(), row.elapsed(), row.budget()),
        (secs(0), secs(7), secs(7))
    );
}

#[tokio::test(start_paused = true)]
async fn progress_shows_how_long_the_lame_duck_has_lasted() {
    let handle = sigterm();
    let progress = handle.progress();
    assert_eq!(progress.elapsed(), None, "no runner uses the handle yet");
    Runner::new(server(&Trace::new()))
        .handle(&handle)
        .lame_duck(secs(7))
        .run(async |_: &mut Server, stop: Stop| {
            sleep(secs(3)).await;
            assert_eq!(
                (progress.elapsed(), progress.remaining()),
                (Some(secs(3)), None)
            );
            stop.cancelled().await;
            sleep(secs(1)).await;
            assert_eq!(
                (progress.elapsed(), progress.remaining()),
                (Some(secs(8)), Some(secs(9)))
            );
        })
        .await;
    assert_eq!(handle.progress().elapsed(), Some(secs(8)));
}

#[tokio::test(start_paused = true)]
async fn the_plan_has_its_whole_budget_after_the_lame_duck() {
    let trace = Trace::new();
    let mut server = server(&trace);
    server.pool = Probe::new(&trace, "pool").looks();
    Runner::new(server)
        .handle(&sigterm())
        .lame_duck(secs(7))
        .run(serve)
        .await;
    assert_eq!(trace.count("pool: 9000 of 10000 ms"), 1, "{trace:?}");
}

#[tokio::test(start_paused = true)]
async fn the_minimum_is_kept_even_when_the_server_is_idle() {
    let trace = Trace::new();
    Runner::new(server(&trace))
        .handle(&sigterm())
        .lame_duck(secs(7))
        .deregister("consul", async || {})
        .run(serve)
        .await;
    assert_eq!(trace.when("main is told"), secs(7));
}

#[tokio::test(start_paused = true)]
async fn a_server_whose_work_is_in_tasks_is_a_lame_duck_too() {
    let trace = Trace::new();
    let report = Runner::new(server(&trace))
        .handle(&sigterm())
        .lame_duck(secs(7))
        .run_until_signal()
        .await;
    assert_eq!(trace.when("pool begins"), secs(7));
    assert!(report.is_clean(), "{report}");
}

#[tokio::test(start_paused = true)]
async fn hooks_run_together_and_the_lame_duck_lasts_as_long_as_the_longest_or_the_minimum() {
    for (minimum, slow, told) in [(secs(2), secs(4), secs(4)), (secs(4), secs(2), secs(4))] {
        let trace = Trace::new();
        let (one, two) = (trace.clone(), trace.clone());
        let report = Runner::new(server(&trace))
            .handle(&sigterm())
            .lame_duck(minimum)
            .deregister("consul", async move || {
                one.add("consul begins");
                sleep(slow).await;
                one.add("consul ends");
            })
            .deregister("dns", async move || {
                two.add("dns begins");
                sleep(secs(1)).await;
                Ok::<_, BoxError>(())
            })
            .run(serve)
            .await;
        assert_eq!(trace.when("consul begins"), secs(0));
        assert_eq!(trace.when("dns begins"), secs(0));
        assert_eq!(trace.when("consul ends"), slow);
        assert_eq!(trace.when("main is told"), told);
        assert_eq!(report.step("lame_duck[consul]").unwrap().elapsed(), slow);
        assert_eq!(report.step("lame_duck[dns]").unwrap().elapsed(), secs(1));
    }
}

#[tokio::test(start_paused = true)]
async fn hooks_without_a_minimum_are_awaited_before_main_gets_stop() {
    let trace = Trace::new();
    Runner::new(server(&trace))
        .handle(&sigterm())
        .deregister("consul", async || sleep(secs(3)).await)
        .run(serve)
        .await;
    assert_eq!(trace.when("main is told"), secs(3));
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_hangs_is_cut_after_5_s_or_the_minimum() {
    for (minimum, cut) in [(secs(0), secs(5)), (secs(2), secs(5)), (secs(8), secs(8))] {
        let trace = Trace::new();
        let report = Runner::new(server(&trace))
            .handle(&sigterm())
            .lame_duck(minimum)
            .deregister("consul", async || pending::<()>().await)
            .run(serve)
            .await;
        assert_eq!(trace.when("main is told"), cut);
        let row = report.step("lame_duck").unwrap();
        assert_eq!((row.elapsed(), row.budget()), (cut, cut));
        let hook = report.step("lame_duck[consul]").unwrap().outcome();
        assert!(matches!(hook, Outcome::TimedOut { .. }), "{report}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_fails_or_panics_has_a_row_below_lame_duck_and_leaves_the_report_clean() {
    let trace = Trace::new();
    let (logs, guard) = Logs::capture();
    let report = Runner::new(server(&trace))
        .handle(&sigterm())
        .deregister("dns", async || {})
        .deregister("consul", async || Err::<(), _>("no leader"))
        .deregister("eureka", async || panic!("no URL"))
        .run(serve)
        .await;
    drop(guard);
    let text = |path: &str| report.step(path).unwrap().outcome().to_string();
    assert_eq!(text("lame_duck[dns]"), "done");
    assert_eq!(text("lame_duck[consul]"), "failed: no leader");
    assert_eq!(text("lame_duck[eureka]"), "panicked: no URL");
    assert!(text("lame_duck").contains("no leader"), "{report}");
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.exit_code(), 0);
    assert_eq!(trace.count("pool ends"), 1);
    let ended: Vec<_> = logs.named("step_end");
    let of = |path: &str| {
        let found = ended.iter().find(|event| event.field("step") == path);
        found.unwrap_or_else(|| panic!("no step_end of {path}: {ended:#?}"))
    };
    assert_eq!(of("lame_duck[consul]").level, Level::WARN, "best effort");
    assert_eq!(of("lame_duck[eureka]").level, Level::WARN, "best effort");
    assert_eq!(of("lame_duck[dns]").level, Level::DEBUG);
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_panics_before_it_returns_its_future_is_contained() {
    let trace = Trace::new();
    let report = Runner::new(server(&trace))
        .handle(&sigterm())
        .deregister("consul", || -> std::future::Ready<()> { panic!("no URL") })
        .run(serve)
        .await;
    let hook = report.step("lame_duck[consul]").unwrap();
    assert_eq!(hook.outcome().to_string(), "panicked: no URL");
    assert!(report.is_clean(), "{report}");
}

#[tokio::test(start_paused = true)]
async fn sigint_skips_the_minimum_but_hooks_run() {
    let trace = Trace::new();
    let (logs, guard) = Logs::capture();
    let report = Runner::new(server(&trace))
        .handle(&requested(Reason::Signal(Signal::INTERRUPT)))
        .lame_duck(secs(7))
        .deregister("consul", async || sleep(secs(1)).await)
        .run(serve)
        .await;
    drop(guard);
    assert_eq!(trace.when("main is told"), secs(1));
    assert!(
        report
            .step("lame_duck[consul]")
            .unwrap()
            .outcome()
            .is_done()
    );
    assert_eq!(logs.only("shutdown_begin").number("lame_duck_ms"), 0);
}

#[tokio::test(start_paused = true)]
async fn after_main_has_ended_failed_or_panicked_there_is_no_minimum_but_hooks_run() {
    async fn ends(_: &mut Server, _: Stop) {}
    async fn fails(_: &mut Server, _: Stop) -> Result<(), BoxError> {
        Err("no".into())
    }
    async fn panics(_: &mut Server, _: Stop) {
        panic!("no");
    }
    let trace = Trace::new();
    let (logs, guard) = Logs::capture();
    let runner = || {
        let hooks = trace.clone();
        Runner::new(server(&trace))
            .lame_duck(secs(7))
            .deregister("consul", async move || hooks.add("deregistered"))
    };
    assert_eq!(runner().run(ends).await.exit_code(), 0);
    assert_eq!(runner().run(fails).await.exit_code(), 1);
    assert_eq!(runner().run(panics).await.exit_code(), 101);
    drop(guard);
    let begun = logs.named("shutdown_begin");
    let told = begun.iter().map(|event| event.number("lame_duck_ms"));
    assert!(told.eq([0, 0, 0]), "{begun:#?}");
    assert_eq!(trace.count("deregistered"), 3);
    assert_eq!(trace.count("pool ends"), 3);
    trace.add("all of them");
    assert_eq!(trace.when("all of them"), secs(0));
}

#[tokio::test(start_paused = true)]
async fn after_a_failed_start_there_is_no_minimum_but_hooks_run() {
    let trace = Trace::new();
    let hooks = trace.clone();
    let report = Runner::build(async |_| Err(FailedStart::new(server(&trace), "no port")))
        .lame_duck(secs(7))
        .deregister("consul", async move || hooks.add("deregistered"))
        .run(serve)
        .await;
    assert_eq!(trace.all(), ["deregistered", "pool begins", "pool ends"]);
    assert_eq!(trace.when("pool begins"), secs(0));
    assert_eq!(report.exit_code(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_main_that_ends_during_the_lame_duck_ends_the_minimum() {
    let trace = Trace::new();
    let report = Runner::new(server(&trace))
        .handle(&sigterm())
        .lame_duck(secs(7))
        .run(async |_: &mut Server, _: Stop| {
            sleep(secs(2)).await;
            Err::<(), _>("the socket is gone")
        })
        .await;
    assert_eq!(trace.when("pool begins"), secs(2));
    assert_eq!(report.reason().to_string(), "SIGTERM", "the first wins");
    let main = report.step("main").unwrap().outcome();
    assert_eq!(main.to_string(), "failed: the socket is gone");
    assert_eq!(report.exit_code(), 1);
}

#[tokio::test(start_paused = true)]
async fn readiness_is_draining_at_the_first_moment_and_stopped_at_the_end() {
    let trace = Trace::new();
    let readiness = Readiness::new();
    readiness.set_ready();
    let (seen, hooked, after) = (readiness.clone(), readiness.clone(), readiness.clone());
    let (hook_trace, after_trace) = (trace.clone(), trace.clone());
    let handle = ShutdownHandle::new();
    let asks = handle.clone();
    Runner::new(server(&trace))
        .handle(&handle)
        .readiness(&readiness)
        .lame_duck(secs(7))
        .deregister("consul", async move || {
            hook_trace.add(format!("hook: {}", hooked.state()));
        })
        .finally(move |_| after_trace.add(format!("finally: {}", after.state())))
        .run(async |server: &mut Server, stop: Stop| {
            server.trace.add(format!("before: {}", seen.state()));
            sleep(secs(1)).await;
            asks.request(Reason::Requested);
            let state = seen.changed().await;
            server.trace.add(format!("requested: {state}"));
            stop.cancelled().await;
            server.trace.add(format!("told: {}", seen.state()));
        })
        .await;
    assert_eq!(
        trace.all(),
        [
            "before: ready",
            "hook: draining",
            "requested: draining",
            "told: draining",
            "pool begins",
            "pool ends",
            "finally: stopped"
        ]
    );
    assert_eq!(trace.when("requested: draining"), secs(1), "at once");
    assert_eq!(trace.when("told: draining"), secs(8));
    assert_eq!(readiness.state(), ReadyState::Stopped);
}

#[tokio::test(start_paused = true)]
async fn the_log_says_how_long_the_lame_duck_is_and_how_it_ended() {
    let trace = Trace::new();
    let (logs, guard) = Logs::capture();
    Runner::new(server(&trace))
        .handle(&sigterm())
        .lame_duck(ms(7_500))
        .run(serve)
        .await;
    drop(guard);
    let begin = logs.only("shutdown_begin");
    assert_eq!(begin.number("lame_duck_ms"), 7_500);
    assert_eq!(begin.number("budget_ms"), 10_000);
    let end = logs.only("lame_duck_end");
    assert_eq!(end.level, Level::INFO);
    assert_eq!(
        (
            end.field("component"),
            end.field("outcome"),
            end.number("elapsed_ms")
        ),
        ("Server", "done", 7_500)
    );
    assert!(
        logs.all().iter().all(|event| event.level >= Level::INFO),
        "{logs:#?}"
    );
}

#[tokio::test(start_paused = true)]
async fn without_a_lame_duck_main_gets_stop_at_once() {
    let trace = Trace::new();
    let (logs, guard) = Logs::capture();
    let report = Runner::new(server(&trace))
        .handle(&sigterm())
        .run(serve)
        .await;
    drop(guard);
    assert_eq!(trace.when("main is told"), secs(0));
    assert!(report.step("lame_duck").is_none());
    assert!(logs.named("lame_duck_end").is_empty());
    assert_eq!(logs.only("shutdown_begin").number("lame_duck_ms"), 0);
}

#[test]
fn a_lame_duck_answers_after_sigterm_and_a_later_signal_ends_it() {
    let mut server = serving("lame-duck");
    server.signal(Sent::TERM);
    server.wait_for("deregistered");
    server.tell("hello");
    server.wait_for("echo hello");
    server.no_longer_a_repeat();
    server.signal(Sent::TERM);
    let ended = server.end();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(
        ended.says(&["told"]) && ended.says(&["store closed"]),
        "{ended:#?}"
    );
    assert!(ended.says(&["lame_duck", "aborted"]), "{ended:#?}");
}

#[test]
fn a_signal_that_is_repeated_at_once_does_not_end_the_lame_duck() {
    let mut server = serving("lame-duck");
    server.signal(Sent::TERM);
    server.signal(Sent::QUIT);
    server.wait_for("deregistered");
    server.tell("hello");
    server.wait_for("echo hello");
    server.no_longer_a_repeat();
    server.tell("again");
    server.wait_for("echo again");
    server.signal(Sent::TERM);
    assert_eq!(server.end().code, Some(0));
}

#[test]
fn a_second_signal_cuts_the_lame_duck_and_a_main_that_does_not_end() {
    let mut server = serving("lame-duck-held");
    server.signal(Sent::TERM);
    server.wait_for("deregistered");
    server.no_longer_a_repeat();
    server.signal(Sent::TERM);
    let ended = server.end();
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    for step in ["lame_duck", "main"] {
        assert!(ended.says(&[step, "aborted"]), "{step}: {ended:#?}");
    }
    assert!(ended.says(&["store closed"]), "{ended:#?}");
}

#[test]
fn a_process_that_gets_sigint_is_no_lame_duck() {
    let server = serving("lame-duck");
    server.signal(Sent::INT);
    let ended = server.end();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(
        ended.says(&["deregistered"]) && ended.says(&["told"]),
        "{ended:#?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_main_that_panics_during_the_lame_duck_keeps_the_reason_and_the_exit_code_is_101() {
    let trace = Trace::new();
    let report = Runner::new(server(&trace))
        .handle(&sigterm())
        .lame_duck(secs(5))
        .run(async |_: &mut Server, _: Stop| {
            sleep(secs(1)).await;
            panic!("a bad request")
        })
        .await;
    assert_eq!(report.reason().to_string(), "SIGTERM");
    assert!(report.step("lame_duck").is_some(), "{report}");
    assert_eq!(report.exit_code(), 101, "{report}");
    assert_eq!(trace.count("pool ends"), 1);
}

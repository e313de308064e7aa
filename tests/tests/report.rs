//! The report tells people and programs what a shutdown did.

use std::process::{ExitCode, Termination as _};
use std::time::Duration;

use lifecycle_runtime::{
    Component as _, GracefulShutdown, Outcome, Plan, Reason, Report, ShutdownState, Signal,
};
use lifecycle_tests::{Probe, TimedStorage, Trace, ms, secs};
use serde_json::{Value, json};

#[derive(GracefulShutdown)]
#[shutdown(timeout = "20s", name = "proxy")]
struct Server {
    #[shutdown(priority = 0, timeout = "2s")]
    drain: Probe,
    #[shutdown(priority = 10, best_effort)]
    cache: Probe,
    #[shutdown(priority = 20)]
    storage: TimedStorage,
    #[shutdown(priority = 30, required)]
    pool: Probe,
    #[shutdown(priority = 40)]
    logs: Probe,
    #[shutdown(state)]
    state: ShutdownState,
}

fn clean(trace: &Trace) -> Server {
    let sleeps = |name, time| Probe::new(trace, name).sleep(ms(time));
    Server {
        drain: sleeps("drain", 1_500),
        cache: sleeps("cache", 20),
        storage: TimedStorage {
            writer: sleeps("writer", 200),
            disk: sleeps("disk", 5),
        },
        pool: Probe::new(trace, "pool"),
        logs: Probe::new(trace, "logs"),
        state: ShutdownState::new(),
    }
}

fn broken(trace: &Trace) -> Server {
    let probe = |name| Probe::new(trace, name);
    Server {
        drain: probe("drain").hang().says("3 connections"),
        cache: probe("cache").error("cold"),
        storage: TimedStorage {
            writer: probe("writer").panic("bad sector"),
            disk: probe("disk").block(secs(3)),
        },
        pool: probe("pool").error("busy"),
        logs: probe("logs"),
        state: ShutdownState::new(),
    }
}

async fn report(mut server: Server) -> Report {
    server
        .shutdown()
        .reason(Reason::Signal(Signal::TERMINATE))
        .await
}

#[tokio::test(start_paused = true)]
async fn a_report_is_displayed_as_a_table_that_names_the_slowest_step() {
    let report = report(clean(&Trace::new())).await;
    assert_eq!(
        report.to_string(),
        "\
shutdown of proxy (SIGTERM): clean after 1.73 s
  step      outcome  start   took    budget
  drain     done     0 µs    1.50 s  2.00 s
  cache     done     1.50 s  20 ms   14.50 s
  storage   done     1.52 s  205 ms  16.48 s
    writer  done     1.52 s  200 ms  1.00 s
    disk    done     1.72 s  5.0 ms  1.00 s
  pool      done     1.73 s  0 µs    17.27 s
  logs      done     1.73 s  0 µs    18.27 s
slowest: drain (1.50 s)"
    );
}

#[tokio::test(start_paused = true)]
async fn a_report_says_beside_each_step_what_went_wrong() {
    let report = report(broken(&Trace::new())).await;
    assert_eq!(
        report.to_string(),
        "\
shutdown of proxy (SIGTERM): not clean after 5.00 s
  step      outcome    start   took    budget
  drain     timed out  0 µs    2.00 s  2.00 s   waiting for 3 connections
  cache     failed     2.00 s  0 µs    14.00 s  cold; best effort
  storage   failed     2.00 s  3.00 s  16.00 s
    writer  panicked   2.00 s  0 µs    1.00 s   bad sector
    disk    done       2.00 s  3.00 s  1.00 s   2.00 s over its budget
  pool      failed     5.00 s  0 µs    14.00 s  busy
  logs      skipped    5.00 s  0 µs    15.00 s  the required step `pool` is not done: failed
slowest: storage (3.00 s)"
    );
}

#[tokio::test(start_paused = true)]
async fn a_report_gives_access_to_its_parts() {
    let report = report(broken(&Trace::new())).await;
    assert_eq!(report.component(), "proxy");
    assert!(matches!(report.reason(), Reason::Signal(Signal::TERMINATE)));
    assert_eq!(report.elapsed(), secs(5));
    assert_eq!(
        (report.is_clean(), report.exit_code(), report.forced()),
        (false, 1, None)
    );
    let names: Vec<_> = report
        .steps()
        .iter()
        .map(|step| (step.name(), step.priority()))
        .collect();
    assert_eq!(
        names,
        [
            ("drain", 0),
            ("cache", 10),
            ("storage", 20),
            ("pool", 30),
            ("logs", 40)
        ]
    );

    let disk = report.step("storage.disk").unwrap();
    assert_eq!(
        (disk.started(), disk.elapsed(), disk.budget()),
        (secs(2), secs(3), secs(1))
    );
    assert!(disk.outcome().is_done() && disk.steps().is_empty());
    assert!(report.step("cache").unwrap().is_best_effort());
    assert!(matches!(
        report.step("logs").unwrap().outcome(),
        Outcome::Skipped
    ));
    for absent in [
        "",
        "stor",
        "storage.",
        "storage.tape",
        "disk",
        "storage.disk.more",
    ] {
        assert!(report.step(absent).is_none(), "`{absent}`");
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_whose_name_begins_anothers_is_not_confused_with_it() {
    #[derive(GracefulShutdown)]
    struct Names {
        #[shutdown]
        log: Probe,
        #[shutdown]
        log_files: Vec<Probe>,
        #[shutdown(state)]
        state: ShutdownState,
    }
    let trace = Trace::new();
    let list = vec![Probe::new(&trace, "file").error("full")];
    let mut server = Names {
        log: Probe::new(&trace, "log"),
        log_files: list,
        state: ShutdownState::new(),
    };
    let report = server.shutdown().await;
    assert!(
        report
            .step("log")
            .is_some_and(|step| step.outcome().is_done())
    );
    assert_eq!(report.step("log_files").unwrap().steps().len(), 1);
    assert!(matches!(
        report.step("log_files[0]").unwrap().outcome(),
        Outcome::Failed(_)
    ));
}

#[tokio::test(start_paused = true)]
async fn a_report_as_a_result_is_an_error_that_names_the_failed_steps_and_holds_the_report() {
    assert!(report(clean(&Trace::new())).await.into_result().is_ok());
    let error = report(broken(&Trace::new()))
        .await
        .into_result()
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with(
            "the shutdown of proxy was not clean: drain timed out: waiting for 3 connections"
        ),
        "{text}"
    );
    assert!(
        text.contains("pool failed: busy") && text.contains("logs skipped"),
        "{text}"
    );
    assert!(!text.contains("cache"), "best effort: {text}");
    assert_eq!(error.report().steps().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_report_returned_from_main_is_the_exit_code() {
    let code = |report: Report| format!("{:?}", report.report());
    assert_eq!(
        code(report(clean(&Trace::new())).await),
        format!("{:?}", ExitCode::from(0))
    );
    assert_eq!(
        code(report(broken(&Trace::new())).await),
        format!("{:?}", ExitCode::from(1))
    );
}

#[tokio::test(start_paused = true)]
async fn a_report_draws_a_timeline() {
    let chart = report(broken(&Trace::new())).await.to_mermaid();
    assert_eq!(
        chart,
        "\
gantt
    dateFormat x
    axisFormat %S.%L s
    title shutdown of proxy
    drain (timed out) :crit, 0, 2000
    cache (failed) :crit, 2000, 2001
    storage (failed) :crit, 2000, 5000
    storage.writer (panicked) :crit, 2000, 2001
    storage.disk (done) :done, 2000, 5000
    pool (failed) :crit, 5000, 5001
    logs (skipped) :crit, 5000, 5001
"
    );
}

#[tokio::test(start_paused = true)]
async fn a_report_serializes() {
    let report = report(broken(&Trace::new())).await;
    let data = serde_json::to_value(&report).unwrap();
    let step = |i: usize| data["steps"][i].clone();
    let whole = |key: &str| data[key].clone();
    assert_eq!(whole("component"), "proxy");
    assert_eq!(whole("reason"), "SIGTERM");
    assert_eq!(whole("clean"), false);
    assert_eq!(whole("exit_code"), 1);
    assert_eq!(whole("elapsed_ms"), 5_000);
    assert_eq!(
        step(0),
        json!({
            "name": "drain", "priority": 0, "started_ms": 0, "elapsed_ms": 2_000, "budget_ms": 2_000, "best_effort": false, "clean": false,
            "outcome": { "kind": "timed_out", "waiting_for": "3 connections" }, "why": null, "steps": [],
        })
    );
    assert_eq!(
        step(1)["outcome"],
        json!({ "kind": "failed", "error": "cold" })
    );
    assert_eq!(step(1)["best_effort"], true);
    assert_eq!(
        step(2)["steps"][0]["outcome"],
        json!({ "kind": "panicked", "message": "bad sector" })
    );
    assert_eq!(step(2)["steps"][1]["outcome"], json!({ "kind": "done" }));
    assert_eq!(step(4)["outcome"], json!({ "kind": "skipped" }));
    assert_eq!(
        step(4)["why"],
        "the required step `pool` is not done: failed"
    );
    assert_eq!(
        (whole("forced"), whole("hurried")),
        (Value::Null, json!(false))
    );
    assert_eq!(step(5), Value::Null);
}

#[test]
fn a_plan_serializes() {
    #[derive(GracefulShutdown)]
    #[shutdown(part)]
    struct Inner {
        #[shutdown(timeout = "2s")]
        disk: Probe,
    }
    #[derive(GracefulShutdown)]
    #[shutdown(timeout = "10s")]
    struct Outer {
        #[shutdown(priority = 0, best_effort)]
        drain: Probe,
        #[shutdown(after = drain, required)]
        inner: Inner,
        #[shutdown(after = drain, timeout = self.limit, at_most = "3s", with = |_| ())]
        pool: u8,
        #[shutdown(skip)]
        limit: Duration,
        #[shutdown(state)]
        state: ShutdownState,
    }
    let trace = Trace::new();
    let mut outer = Outer {
        drain: Probe::new(&trace, "drain"),
        inner: Inner {
            disk: Probe::new(&trace, "disk"),
        },
        pool: 0,
        limit: ms(1500),
        state: ShutdownState::new(),
    };
    let data = serde_json::to_value(outer.plan()).unwrap();
    assert_eq!(
        (&data["name"], &data["budget_ms"]),
        (&json!("Outer"), &json!(10_000))
    );
    let [drain, inner, pool] = &data["steps"].as_array().unwrap()[..] else {
        panic!("{data}");
    };
    assert_eq!(
        (&drain["after"], &drain["budget_ms"]),
        (&json!([]), &Value::Null)
    );
    assert_eq!(drain["best_effort"], true);
    assert_eq!(
        (&inner["after"], &inner["required"]),
        (&json!(["drain"]), &json!(true))
    );
    assert_eq!(inner["plan"]["steps"][0]["name"], "disk");
    assert_eq!(inner["plan"]["steps"][0]["budget_ms"], 2_000);
    assert_eq!(
        (&pool["after"], &pool["budget_ms"]),
        (&json!(["drain"]), &json!(1_500))
    );
    assert_eq!(
        serde_json::to_value(Outer::PLAN).unwrap()["steps"][2]["budget_ms"],
        3_000
    );
    outer.state.disarm();
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_elements_that_are_done_are_one_line() {
    #[derive(GracefulShutdown)]
    struct Many {
        #[shutdown]
        sessions: Vec<Probe>,
        #[shutdown(state)]
        state: ShutdownState,
    }
    let trace = Trace::new();
    let sessions = (0..10_000).map(|i| {
        let probe = Probe::new(&trace, "session");
        if i == 4_711 {
            probe.error("half open")
        } else {
            probe
        }
    });
    let mut server = Many {
        sessions: sessions.collect(),
        state: ShutdownState::new(),
    };
    let report = server.shutdown().await;
    assert_eq!(
        report.step("sessions").unwrap().steps().len(),
        10_000,
        "none is lost"
    );
    let text = report.to_string();
    assert!(text.lines().count() < 10, "{text}");
    assert!(
        text.contains("9999 elements") && text.contains("[4711]") && text.contains("half open"),
        "{text}"
    );
    let error = report.into_result().unwrap_err().to_string();
    assert!(error.len() < 1_000, "{error}");
}

#[tokio::test(start_paused = true)]
async fn clones_share_one_report() {
    let report = report(clean(&Trace::new())).await;
    assert!(std::ptr::eq(report.steps(), report.clone().steps()));
}

#[test]
fn a_plan_is_displayed_as_a_table_and_is_a_constant() {
    const PLAN: Plan = <Server as lifecycle_runtime::Component>::PLAN;
    const BUDGET: Option<std::time::Duration> = PLAN.budget();
    assert_eq!(BUDGET, Some(secs(20)));
    let text = PLAN.to_string();
    assert!(text.starts_with("proxy: at most 20s"), "{text}");
    for step in [
        "drain", "cache", "storage", "  writer", "  disk", "pool", "logs",
    ] {
        assert!(text.contains(step), "{text}");
    }
    assert!(
        PLAN.to_mermaid().starts_with("flowchart LR\n"),
        "{}",
        PLAN.to_mermaid()
    );
}

#[test]
fn a_signal_without_a_known_name_is_shown_by_its_number() {
    assert_eq!(
        Reason::Signal(Signal::from_raw(10)).to_string(),
        "signal 10"
    );
    assert_eq!(Reason::Signal(Signal::INTERRUPT).to_string(), "SIGINT");
}

//! The events of a shutdown have the documented names, levels and fields.

use std::collections::BTreeSet;

use lifecycle_runtime::{GracefulShutdown, Reason, Runner, ShutdownHandle, ShutdownState, Stop};
use lifecycle_tests::{Logs, Probe, TimedStorage, Trace, ms, secs};
use tracing::Level;

#[derive(GracefulShutdown)]
#[shutdown(timeout = "60s")]
struct Server {
    #[shutdown(priority = 0, timeout = "40s")]
    drain: Probe,
    #[shutdown(priority = 1, best_effort)]
    cache: Probe,
    #[shutdown(priority = 2)]
    storage: TimedStorage,
    #[shutdown(priority = 3)]
    plugins: Vec<Probe>,
    #[shutdown(state)]
    state: ShutdownState,
}

fn server(trace: &Trace) -> Server {
    let probe = |name| Probe::new(trace, name);
    Server {
        drain: probe("drain").sleep(ms(300)),
        cache: probe("cache"),
        storage: TimedStorage {
            writer: probe("writer").sleep(ms(40)),
            disk: probe("disk"),
        },
        plugins: vec![probe("plugin"), probe("plugin")],
        state: ShutdownState::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_clean_shutdown_is_info_throughout() {
    let (logs, guard) = Logs::capture();
    let mut server = server(&Trace::new());
    server.shutdown().await;
    drop((server, guard));
    let told: Vec<_> = logs
        .all()
        .iter()
        .filter(|event| event.level <= Level::INFO)
        .map(|event| event.name.clone())
        .collect();
    assert_eq!(
        told,
        [
            "shutdown_begin",
            "step_end",
            "step_end",
            "step_end",
            "step_end",
            "step_end",
            "step_end",
            "shutdown_end"
        ]
    );
    assert!(
        logs.all().iter().all(|event| event.level >= Level::INFO),
        "nothing worse: {logs:#?}"
    );
}

#[tokio::test(start_paused = true)]
async fn shutdown_begin_has_the_component_the_reason_and_the_budget() {
    let (logs, guard) = Logs::capture();
    server(&Trace::new())
        .shutdown()
        .reason(Reason::MainEnded)
        .within(secs(30))
        .await;
    drop(guard);
    let event = logs.only("shutdown_begin");
    assert_eq!(
        event.field_names(),
        ["budget_ms", "component", "lame_duck_ms", "reason"]
    );
    assert_eq!(
        (event.field("component"), event.field("reason")),
        ("Server", "main ended")
    );
    assert_eq!(
        (event.number("lame_duck_ms"), event.number("budget_ms")),
        (0, 30_000)
    );
}

#[tokio::test(start_paused = true)]
async fn step_end_has_the_path_the_outcome_the_time_and_the_budget_of_each_step() {
    let (logs, guard) = Logs::capture();
    server(&Trace::new()).shutdown().await;
    drop(guard);
    let ends = logs.named("step_end");
    let paths: Vec<_> = ends.iter().map(|event| event.field("step")).collect();
    assert_eq!(
        paths,
        [
            "drain",
            "cache",
            "storage.writer",
            "storage.disk",
            "storage",
            "plugins[0]",
            "plugins[1]",
            "plugins"
        ]
    );
    let drain = &ends[0];
    assert_eq!(
        drain.field_names(),
        ["budget_ms", "elapsed_ms", "outcome", "over_ms", "step"]
    );
    assert_eq!(drain.field("outcome"), "done");
    assert_eq!(
        (
            drain.number("elapsed_ms"),
            drain.number("budget_ms"),
            drain.number("over_ms")
        ),
        (300, 40_000, 0)
    );
    assert_eq!(ends[2].number("elapsed_ms"), 40);
    // The end of an element of a list that succeeds is logged only at DEBUG, since there may be thousands.
    assert_eq!(ends[5].level, Level::DEBUG);
}

#[tokio::test(start_paused = true)]
async fn a_step_that_is_not_done_is_an_error_or_a_warning_if_it_is_best_effort() {
    let trace = Trace::new();
    let probe = |name| Probe::new(&trace, name);
    let (logs, guard) = Logs::capture();
    let mut server = Server {
        drain: probe("drain").hang().says("3 connections"),
        cache: probe("cache").error("cold"),
        storage: TimedStorage {
            writer: probe("writer").panic("bad sector"),
            disk: probe("disk").block(secs(3)),
        },
        plugins: vec![probe("plugin").error("spam")],
        state: ShutdownState::new(),
    };
    server.shutdown().await;
    drop(guard);
    let ends = logs.named("step_end");
    let end = |path: &str| {
        ends.iter()
            .find(|event| event.field("step") == path)
            .unwrap()
    };

    let drain = end("drain");
    assert_eq!(
        (drain.level, drain.field("outcome")),
        (Level::ERROR, "timed out")
    );
    assert_eq!(
        (drain.field("waiting_for"), drain.field("error")),
        ("3 connections", "")
    );
    let cache = end("cache");
    assert_eq!(
        (cache.level, cache.field("outcome"), cache.field("error")),
        (Level::WARN, "failed", "cold")
    );
    let writer = end("storage.writer");
    assert_eq!(
        (writer.level, writer.field("outcome"), writer.field("error")),
        (Level::ERROR, "panicked", "bad sector")
    );
    let disk = end("storage.disk");
    assert_eq!((disk.level, disk.number("over_ms")), (Level::INFO, 2_000));
    let plugin = end("plugins[0]");
    assert_eq!(
        (plugin.level, plugin.field("error")),
        (Level::ERROR, "spam"),
        "an element that failed is told of"
    );

    let last = logs.only("shutdown_end");
    assert_eq!(last.level, Level::ERROR);
    let counts =
        ["done", "failed", "panicked", "timed_out", "skipped"].map(|count| last.number(count));
    assert_eq!(counts, [1, 2, 1, 1, 0], "{last:?}");
    assert_eq!(
        (
            last.field("slowest"),
            last.number("exit_code"),
            last.field("forced")
        ),
        ("drain", 1, "false")
    );
}

#[tokio::test(start_paused = true)]
async fn shutdown_end_has_the_counts_the_slowest_step_and_the_exit_code() {
    let (logs, guard) = Logs::capture();
    server(&Trace::new()).shutdown().await;
    drop(guard);
    let event = logs.only("shutdown_end");
    let fields = [
        "aborted",
        "component",
        "done",
        "elapsed_ms",
        "exit_code",
        "failed",
        "forced",
        "hurried",
        "panicked",
        "reason",
        "skipped",
        "slowest",
        "timed_out",
    ];
    assert_eq!(event.field_names(), fields);
    assert_eq!(
        (event.number("done"), event.number("elapsed_ms")),
        (6, 340),
        "nested steps by themselves"
    );
    assert_eq!(
        (
            event.field("slowest"),
            event.field("forced"),
            event.number("exit_code")
        ),
        ("drain", "false", 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_running_shutdown_logs_what_it_waits_for_every_5_s() {
    let trace = Trace::new();
    let mut server = server(&trace);
    server.drain = Probe::new(&trace, "drain")
        .sleep(secs(12))
        .says("3 connections");
    server.storage.writer = Probe::new(&trace, "writer").hang();
    let (logs, guard) = Logs::capture();
    server.shutdown().await;
    drop(guard);
    let progress = logs.named("shutdown_progress");
    let at: Vec<_> = progress
        .iter()
        .map(|event| event.number("elapsed_ms"))
        .collect();
    assert_eq!(at, [5_000, 10_000]);
    let event = &progress[0];
    assert_eq!(event.level, Level::INFO);
    assert_eq!(
        event.field_names(),
        [
            "component",
            "elapsed_ms",
            "remaining_ms",
            "unfinished",
            "waiting_for"
        ]
    );
    assert_eq!(
        (event.field("unfinished"), event.field("waiting_for")),
        ("drain", "drain: 3 connections")
    );
    assert_eq!(event.number("remaining_ms"), 55_000);
}

#[tokio::test(start_paused = true)]
async fn progress_names_nested_steps_elements_and_main() {
    let trace = Trace::new();
    let probe = |name| Probe::new(&trace, name);
    let server = Server {
        drain: probe("drain"),
        cache: probe("cache"),
        storage: TimedStorage {
            writer: probe("writer"),
            disk: probe("disk"),
        },
        plugins: vec![
            probe("plugin").sleep(secs(6)).says("the mail"),
            probe("plugin"),
        ],
        state: ShutdownState::new(),
    };
    let handle = ShutdownHandle::new();
    handle.request(Reason::Requested);
    let (logs, guard) = Logs::capture();
    let main = async |_: &mut Server, stop: Stop| {
        stop.cancelled().await;
        tokio::time::sleep(secs(7)).await;
    };
    let report = Runner::new(server).handle(&handle).run(main).await;
    drop(guard);
    assert!(report.is_clean(), "{report}");
    let progress = logs.named("shutdown_progress");
    let told: Vec<_> = progress
        .iter()
        .map(|event| (event.number("elapsed_ms"), event.field("unfinished")))
        .collect();
    assert_eq!(told, [(5_000, "main"), (10_000, "plugins[0]")]);
    assert_eq!(progress[1].field("waiting_for"), "plugins[0]: the mail");
    assert_eq!(logs.named("step_end")[0].field("step"), "main");
    logs.only("shutdown_begin");
    assert_eq!(
        logs.only("shutdown_end").number("done"),
        7,
        "main is a step"
    );
}

#[tokio::test(start_paused = true)]
async fn a_resumed_shutdown_logs_its_beginning_once_and_keeps_its_interval() {
    let trace = Trace::new();
    let mut server = server(&trace);
    server.drain = Probe::new(&trace, "drain").sleep(secs(4));
    let (logs, guard) = Logs::capture();
    assert!(
        tokio::time::timeout(secs(3), server.shutdown())
            .await
            .is_err()
    );
    server.shutdown().await;
    server.shutdown().await;
    drop(guard);
    logs.only("shutdown_begin");
    logs.only("shutdown_end");
    assert_eq!(logs.only("shutdown_progress").number("elapsed_ms"), 5_000);
}

#[test]
fn dropped_unshut_is_a_warning_with_the_fields_that_were_not_cleaned() {
    let (logs, ()) = Logs::of(|| drop(server(&Trace::new())));
    let event = logs.only("dropped_unshut");
    assert_eq!(event.level, Level::WARN);
    assert_eq!(event.field_names(), ["component", "fields", "panicking"]);
    assert_eq!(
        (event.field("component"), event.field("fields")),
        ("Server", "drain, cache, storage, plugins")
    );
    assert_eq!(event.field("panicking"), "false");
}

#[tokio::test(start_paused = true)]
async fn the_exit_code_that_the_runner_chose_is_logged() {
    let (logs, guard) = Logs::capture();
    let report = Runner::new(server(&Trace::new()))
        .exit_code(|_| 3)
        .run(async |_: &mut Server, _| {})
        .await;
    drop(guard);
    assert_eq!(report.exit_code(), 3);
    assert_eq!(logs.only("shutdown_end").number("exit_code"), 3);
}

/// Returns the words between `mark`s that look like the name of an event: lower case, with an underscore.
fn names(text: &str, mark: char) -> impl Iterator<Item = &str> {
    let name = |word: &&str| {
        word.contains('_') && word.chars().all(|c| c == '_' || c.is_ascii_lowercase())
    };
    text.split(mark).skip(1).step_by(2).filter(name)
}

#[test]
fn the_guide_has_a_row_for_each_event_and_no_others() {
    let source = include_str!("../../lifecycle-runtime/src/log.rs");
    let page = include_str!("../../lifecycle-runtime/src/guide/logs_and_spans.md");
    // The name of an event stands alone on its line in the source, or at the end of the line that logs the event.
    let logged: BTreeSet<_> = source
        .lines()
        .filter(|line| line.trim_start().starts_with('"') || line.ends_with("\");"))
        .flat_map(|line| names(line, '"'))
        .collect();
    let told: BTreeSet<_> = page
        .lines()
        .filter(|line| line.starts_with("| `") && line.contains('_'))
        .filter_map(|line| names(line.split('|').nth(1)?, '`').next())
        .collect();
    assert_eq!(logged, told);
    assert!(logged.len() > 10, "{logged:?}");
}

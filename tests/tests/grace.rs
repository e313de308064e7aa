//! What the platform gives is compared with what the shutdown may need.

use std::time::Duration;

use lifecycle_runtime::{GracefulShutdown, Runner, ShutdownState, Stop};
use lifecycle_tests::{Event, Logs, Probe, Trace, ms, secs};
use tracing::Level;

#[derive(GracefulShutdown)]
#[shutdown(timeout = self.patience, at_most = "60s")]
struct Server {
    patience: Duration,
    #[shutdown]
    pool: Probe,
    #[shutdown(state)]
    state: ShutdownState,
}

fn runner(patience: Duration) -> Runner<Server> {
    Runner::new(Server {
        patience,
        pool: Probe::new(&Trace::new(), "pool"),
        state: ShutdownState::new(),
    })
}

/// What was logged when main starts.
async fn warned(runner: Runner<Server>) -> Vec<Event> {
    let (logs, guard) = Logs::capture();
    let mut seen = Vec::new();
    runner
        .run(async |_: &mut Server, _: Stop| seen = logs.all())
        .await;
    drop(guard);
    seen
}

fn only(events: &[Event]) -> &Event {
    match events {
        [event] => event,
        events => panic!("{} events: {events:#?}", events.len()),
    }
}

#[tokio::test(start_paused = true)]
async fn a_shortfall_is_a_warning_with_the_numbers_at_the_start() {
    let logs = warned(runner(secs(25)).lame_duck(secs(5)).grace("30s")).await;
    let first = only(&logs);
    assert_eq!((&*first.name, first.level), ("grace_short", Level::WARN));
    assert_eq!(first.field("component"), "Server");
    let numbers = ["grace_ms", "lame_duck_ms", "budget_ms", "after_ms"];
    assert_eq!(
        numbers.map(|name| first.number(name)),
        [30_000, 5_000, 25_000, 1_000]
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_enough_to_the_millisecond_is_silent() {
    for grace in ["31s", "1m", "30s 1000ms", "1h"] {
        let logs = warned(runner(secs(25)).lame_duck(secs(5)).grace(grace)).await;
        assert!(logs.is_empty(), "{grace}: {logs:#?}");
    }
    let logs = warned(runner(secs(25)).lame_duck(secs(5)).grace(ms(30_999))).await;
    assert_eq!(only(&logs).number("grace_ms"), 30_999);
}

#[tokio::test(start_paused = true)]
async fn the_budget_is_the_one_that_this_server_has() {
    let logs = warned(runner(secs(10)).grace("11s")).await;
    assert!(logs.is_empty(), "{logs:#?}");
    let logs = warned(runner(secs(3600)).grace("11s")).await;
    assert_eq!(only(&logs).number("budget_ms"), 60_000, "clipped");
}

#[tokio::test(start_paused = true)]
async fn hooks_count_with_the_time_they_may_take() {
    let logs = warned(
        runner(secs(10))
            .deregister("consul", async || {})
            .grace("15s"),
    )
    .await;
    assert_eq!(only(&logs).number("lame_duck_ms"), 5_000);
}

#[tokio::test(start_paused = true)]
async fn a_text_that_is_no_duration_is_logged_and_nothing_is_checked() {
    for text in ["", "30", "soon", "30 s", "-5s", "1.5s"] {
        let logs = warned(runner(secs(25)).grace(text)).await;
        let first = only(&logs);
        assert_eq!(first.level, Level::WARN, "{text:?}");
        assert!(first.name.contains("no duration"), "{text:?}: {first:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_grace_period_nothing_is_checked() {
    let logs = warned(runner(secs(60)).lame_duck(secs(60))).await;
    assert!(logs.is_empty(), "{logs:#?}");
}

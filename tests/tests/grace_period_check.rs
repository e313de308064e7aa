//! The platform's grace period is compared with the longest time that the shutdown may need.

use std::time::Duration;

use lifecycle_runtime::{Grace, GracefulShutdown, Runner, ShutdownState, Stop};
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

/// Returns the events that the runner logs before main starts, except `main_share`.
async fn warned(runner: Runner<Server>) -> Vec<Event> {
    let (logs, guard) = Logs::capture();
    let mut seen = Vec::new();
    runner
        .run(async |_: &mut Server, _: Stop| seen = logs.all())
        .await;
    drop(guard);
    seen.retain(|event| event.name != "main_share");
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
async fn a_grace_period_that_is_just_enough_logs_nothing() {
    for grace in ["31s", "1m", "30s 1000ms", "1h"] {
        let logs = warned(runner(secs(25)).lame_duck(secs(5)).grace(grace)).await;
        assert!(logs.is_empty(), "{grace}: {logs:#?}");
    }
    let logs = warned(runner(secs(25)).lame_duck(secs(5)).grace(ms(30_999))).await;
    assert_eq!(only(&logs).number("grace_ms"), 30_999);
}

#[tokio::test(start_paused = true)]
async fn the_budget_is_that_of_this_value() {
    let logs = warned(runner(secs(10)).grace("11s")).await;
    assert!(logs.is_empty(), "{logs:#?}");
    let logs = warned(runner(secs(3600)).grace("11s")).await;
    assert_eq!(only(&logs).number("budget_ms"), 60_000, "clipped");
}

#[tokio::test(start_paused = true)]
async fn hooks_count_with_their_longest_time() {
    let logs = warned(
        runner(secs(10))
            .deregister("consul", async || {})
            .grace("15s"),
    )
    .await;
    assert_eq!(only(&logs).number("lame_duck_ms"), 5_000);
}

#[test]
fn a_text_is_a_sum_of_whole_numbers_with_units() {
    for (text, expected) in [
        ("30s", secs(30)),
        ("1m 30s 5ms", ms(90_005)),
        (" 2h ", secs(7_200)),
        ("0s", Duration::ZERO),
    ] {
        assert_eq!(text.parse(), Ok(Grace::from(expected)), "{text:?}");
        assert_eq!(Duration::from(text.parse::<Grace>().unwrap()), expected);
    }
}

#[test]
fn a_text_that_is_not_a_duration_is_an_error_that_says_what_to_write() {
    for (text, why) in [
        ("", "it is empty"),
        (" ", "it is empty"),
        ("30", "\"30\" has no unit"),
        ("30 s", "\"30\" has no unit"),
        ("1m 30", "\"30\" has no unit"),
        ("soon", "\"soon\" does not begin with a number"),
        ("s", "\"s\" does not begin with a number"),
        ("-5s", "\"-5s\" does not begin with a number"),
        ("1.5s", "\".5s\" is not a unit"),
        ("30sec", "\"sec\" is not a unit"),
        ("1d", "\"d\" is not a unit"),
        ("1s2", "\"s2\" is not a unit"),
        ("99999999999999999999s", "it is too long to count"),
        ("18446744073709551615h", "it is too long to count"),
    ] {
        let error = text.parse::<Grace>().unwrap_err().to_string();
        let begins = format!("{text:?} is not a grace period: {why}; ");
        assert!(error.starts_with(&begins), "{error}");
        assert!(error.ends_with("such as \"30s\" or \"1m 30s\""), "{error}");
    }
}

#[test]
fn a_typo_in_a_literal_panics_where_it_is_written() {
    use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
    use std::sync::{Arc, Mutex};

    let place = Arc::new(Mutex::new(String::new()));
    let told = Arc::clone(&place);
    let mine = std::thread::current().id();
    let usual = take_hook();
    set_hook(Box::new(move |info| {
        if std::thread::current().id() == mine {
            *told.lock().unwrap() = info.location().unwrap().file().to_owned();
        }
    }));
    let runner = runner(secs(25));
    let ended = catch_unwind(AssertUnwindSafe(|| runner.grace("30x")));
    set_hook(usual);
    let payload = ended.expect_err("it panics");
    let message = payload.downcast_ref::<String>().unwrap();
    assert!(
        message.starts_with("\"30x\" is not a grace period"),
        "{message}"
    );
    assert_eq!(*place.lock().unwrap(), file!());
}

#[tokio::test(start_paused = true)]
async fn without_a_grace_period_nothing_is_checked() {
    let logs = warned(runner(secs(60)).lame_duck(secs(60))).await;
    assert!(logs.is_empty(), "{logs:#?}");
}

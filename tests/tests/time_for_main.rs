//! The plan leaves some time to main. The plan's display, the log at the start and the runner all use that same time.

use std::future::pending;
use std::time::Duration;

use lifecycle_runtime::{
    Component, GracefulShutdown, Outcome, Plan, Reason, Report, Runner, ShutdownHandle,
    ShutdownState,
};
use lifecycle_tests::{Logs, Probe, Trace, ms, secs};
use tracing::Level;

/// A server whose plan leaves 8 s to main, with a step that states no timeout.
#[derive(GracefulShutdown)]
#[shutdown(strict, timeout = "25s")]
struct Roomy {
    #[shutdown(timeout = "16s")]
    drain: Probe,
    #[shutdown]
    unstated: Probe,
    #[shutdown(state)]
    state: ShutdownState,
}

/// A server whose plan leaves no time to main.
#[derive(GracefulShutdown)]
#[shutdown(strict, timeout = "9s")]
struct Full {
    #[shutdown(timeout = "9s")]
    drain: Probe,
    #[shutdown(state)]
    state: ShutdownState,
}

/// A server whose settings decide how much time the plan leaves to main.
#[derive(GracefulShutdown)]
#[shutdown(strict, timeout = self.total, at_most = "60s")]
struct Configured {
    #[shutdown(timeout = self.drain_for)]
    drain: Probe,
    #[shutdown(skip)]
    total: Duration,
    #[shutdown(skip)]
    drain_for: Duration,
    #[shutdown(state)]
    state: ShutdownState,
}

#[derive(GracefulShutdown)]
#[shutdown(part, strict, timeout = "5s")]
struct Part {
    #[shutdown(timeout = "1s")]
    probe: Probe,
}

fn probe() -> Probe {
    Probe::new(&Trace::new(), "probe")
}

fn configured(total: Duration, drain_for: Duration) -> Configured {
    Configured {
        drain: probe(),
        total,
        drain_for,
        state: ShutdownState::new(),
    }
}

/// Runs the server with a main that waits for `stop` and then never ends. Returns the time after which the runner cut
/// main, and main's time and the plan's budget from the log, in milliseconds.
async fn stuck_main<S: GracefulShutdown + Send>(server: S) -> (Duration, [u64; 2]) {
    let (logs, guard) = Logs::capture();
    let handle = ShutdownHandle::new();
    handle.request(Reason::Requested);
    let report = Runner::new(server)
        .handle(&handle)
        .run(async |_, stop| {
            stop.cancelled().await;
            pending::<()>().await;
        })
        .await;
    drop(guard);
    let share = logs.only("main_share");
    assert_eq!(share.level, Level::INFO);
    assert_eq!(share.field("component"), report.component());
    (
        main_took(&report),
        [share.number("main_ms"), share.number("budget_ms")],
    )
}

fn main_took(report: &Report) -> Duration {
    let main = report.step("main").expect("main is a step");
    assert!(
        matches!(main.outcome(), Outcome::TimedOut { .. }),
        "{report}"
    );
    main.elapsed()
}

#[tokio::test(start_paused = true)]
async fn main_gets_the_time_that_the_longest_path_leaves() {
    let share = const { Roomy::PLAN.main_share().unwrap() };
    assert_eq!(share, secs(8));
    let server = Roomy {
        drain: probe(),
        unstated: probe(),
        state: ShutdownState::new(),
    };
    assert_eq!(server.plan().main_share(), Some(share));
    assert_eq!(stuck_main(server).await, (share, [8_000, 25_000]));
}

#[tokio::test(start_paused = true)]
async fn main_counts_as_one_second_where_the_plan_leaves_nothing() {
    let share = const { Full::PLAN.main_share().unwrap() };
    assert_eq!(share, ms(900), "9 s shrink to nine tenths");
    let server = Full {
        drain: probe(),
        state: ShutdownState::new(),
    };
    assert_eq!(server.plan().main_share(), Some(share));
    assert_eq!(stuck_main(server).await, (share, [900, 9_000]));
}

#[tokio::test(start_paused = true)]
async fn a_resolved_plan_has_the_share_that_its_settings_leave() {
    let server = configured(secs(30), secs(10));
    assert_eq!(server.plan().main_share(), Some(secs(20)));
    assert_eq!(stuck_main(server).await, (secs(20), [20_000, 30_000]));
    let absurd = configured(secs(30), secs(1_000_000));
    let share = absurd.plan().main_share().expect("an owner");
    let (took, _) = stuck_main(absurd).await;
    // The runner may cut main a millisecond later, since a timer has ticks of 1 ms.
    assert!(
        (share..share + ms(1)).contains(&took),
        "{took:?} of {share:?}"
    );
}

#[test]
fn only_the_plan_of_an_owner_has_a_share_for_main() {
    assert_eq!(Part::PLAN.main_share(), None);
    assert_eq!(Plan::leaf().main_share(), None);
    assert!(Part::PLAN.to_string().starts_with("Part: at most 5s\n"));
    let shown = Roomy::PLAN.to_string();
    assert!(
        shown.starts_with("Roomy: at most 25s (main: up to 8s)\n"),
        "{shown}"
    );
}

#[tokio::test(start_paused = true)]
async fn without_a_main_its_share_is_not_logged() {
    let (logs, guard) = Logs::capture();
    let handle = ShutdownHandle::new();
    handle.request(Reason::Requested);
    let server = configured(secs(30), secs(10));
    let runner = Runner::new(server).handle(&handle);
    runner.run_until_signal().await;
    drop(guard);
    assert!(logs.named("main_share").is_empty(), "{logs:#?}");
}

//! An owner that is dropped without a shutdown, in code that the shutdown runs, is a row of the report.

use lifecycle_runtime::{GracefulShutdown, Outcome, Report, Runner, ShutdownState, Stop};
use lifecycle_tests::{Probe, Trace, secs};
use tokio::time::sleep;

/// An owner that is held where no plan knows of it.
#[derive(GracefulShutdown)]
struct Inner {
    #[shutdown]
    journal: Probe,
    #[shutdown(state)]
    state: ShutdownState,
}

fn inner(trace: &Trace) -> Inner {
    Inner {
        journal: Probe::new(trace, "journal"),
        state: ShutdownState::new(),
    }
}

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(timeout = "2s", with = async |held: &mut Held| held.clean().await)]
    held: Held,
    #[shutdown(skip)]
    _kept: Option<Inner>,
    #[shutdown(state)]
    state: ShutdownState,
}

/// Forgets the shutdown of what it holds.
struct Held {
    inner: Option<Inner>,
    later: bool,
}

impl Held {
    async fn clean(&mut self) {
        let _forgotten = self.inner.take();
        if self.later {
            sleep(secs(60)).await;
        }
    }
}

fn server(trace: &Trace, held: bool, kept: bool) -> Server {
    Server {
        held: Held {
            inner: held.then(|| inner(trace)),
            later: false,
        },
        _kept: kept.then(|| inner(trace)),
        state: ShutdownState::new(),
    }
}

fn assert_lost(report: &Report, path: &str) {
    let lost = report.step(path);
    let lost = lost.unwrap_or_else(|| panic!("no `{path}`:\n{report}"));
    assert!(matches!(lost.outcome(), Outcome::Aborted), "{report}");
    let why = "it was dropped without a shutdown, which left journal";
    assert_eq!(lost.why(), Some(why));
    assert!(!report.is_clean(), "{report}");
    assert_eq!(report.exit_code(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_that_a_cleanup_drops() {
    let report = server(&Trace::new(), true, false).shutdown().await;
    assert!(report.step("held").unwrap().outcome().is_done());
    assert_lost(&report, "held.Inner");
}

#[tokio::test(start_paused = true)]
async fn one_that_is_dropped_with_a_cleanup_that_is_cut() {
    let mut server = server(&Trace::new(), true, false);
    server.held.later = true;
    let report = server.shutdown().await;
    assert_lost(&report, "held.Inner");
}

#[tokio::test(start_paused = true)]
async fn one_that_is_dropped_with_a_shutdown_that_is_left_half_way() {
    let mut server = server(&Trace::new(), true, false);
    server.held.later = true;
    let half = tokio::time::timeout(secs(1), server.shutdown()).await;
    assert!(half.is_err());
    server.held.later = false;
    let report = server.shutdown().await;
    assert_lost(&report, "held.Inner");
}

#[tokio::test(start_paused = true)]
async fn one_that_is_dropped_with_main() {
    let trace = Trace::new();
    let report = Runner::new(server(&trace, false, false))
        .run(async |_: &mut Server, _: Stop| {
            let _forgotten = inner(&trace);
        })
        .await;
    assert_lost(&report, "main.Inner");
}

#[tokio::test(start_paused = true)]
async fn one_that_main_drops_while_it_serves_is_not_the_shutdown_s() {
    let trace = Trace::new();
    let report = Runner::new(server(&trace, false, false))
        .run(async |_: &mut Server, _: Stop| {
            drop(inner(&trace));
            sleep(secs(1)).await;
        })
        .await;
    assert!(report.is_clean(), "{report}");
}

#[tokio::test(start_paused = true)]
async fn one_that_is_dropped_with_the_server() {
    let report = Runner::new(server(&Trace::new(), false, true))
        .run(async |_: &mut Server, _: Stop| ())
        .await;
    assert_lost(&report, "drop.Inner");
}

#[tokio::test(start_paused = true)]
async fn one_that_was_shut_down_is_not_lost() {
    let trace = Trace::new();
    let report = Runner::new(server(&trace, false, false))
        .run(async |_: &mut Server, _: Stop| {
            let mut inner = inner(&trace);
            assert!(inner.shutdown().await.is_clean());
        })
        .await;
    assert!(report.is_clean(), "{report}");
}

//! If a cleanup drops an owner without shutting it down, the report has a row for that owner.

use lifecycle_runtime::{GracefulShutdown, Outcome, Report, Runner, ShutdownState, Stop};
use lifecycle_tests::{Probe, Trace, secs};
use tokio::time::sleep;

/// An owner that is in no plan, because no field of that type is a step.
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

/// A value whose cleanup drops an owner without shutting it down.
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

fn assert_unawaited(report: &Report, path: &str) {
    let lost = report.step(path);
    let lost = lost.unwrap_or_else(|| panic!("no `{path}`:\n{report}"));
    assert!(matches!(lost.outcome(), Outcome::Aborted), "{report}");
    let why = "it was dropped without a shutdown, which left journal";
    assert_eq!(lost.why(), Some(why));
    assert!(!report.is_clean(), "{report}");
    assert_eq!(report.exit_code(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_a_cleanup_drops_is_reported() {
    let report = server(&Trace::new(), true, false).shutdown().await;
    assert!(report.step("held").unwrap().outcome().is_done());
    assert_unawaited(&report, "held.Inner");
}

#[tokio::test(start_paused = true)]
async fn an_owner_dropped_with_a_cut_cleanup_is_reported() {
    let mut server = server(&Trace::new(), true, false);
    server.held.later = true;
    let report = server.shutdown().await;
    assert_unawaited(&report, "held.Inner");
}

#[tokio::test(start_paused = true)]
async fn an_owner_dropped_with_an_interrupted_shutdown_is_reported() {
    let mut server = server(&Trace::new(), true, false);
    server.held.later = true;
    let half = tokio::time::timeout(secs(1), server.shutdown()).await;
    assert!(half.is_err());
    server.held.later = false;
    let report = server.shutdown().await;
    assert_unawaited(&report, "held.Inner");
}

#[tokio::test(start_paused = true)]
async fn an_owner_dropped_with_main_is_reported() {
    let trace = Trace::new();
    let report = Runner::new(server(&trace, false, false))
        .run(async |_: &mut Server, _: Stop| {
            let _forgotten = inner(&trace);
        })
        .await;
    assert_unawaited(&report, "main.Inner");
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_main_drops_before_the_shutdown_is_not_reported() {
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
async fn an_owner_dropped_with_the_server_is_reported() {
    let report = Runner::new(server(&Trace::new(), false, true))
        .run(async |_: &mut Server, _: Stop| ())
        .await;
    assert_unawaited(&report, "drop.Inner");
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_was_shut_down_is_not_reported() {
    let trace = Trace::new();
    let report = Runner::new(server(&trace, false, false))
        .run(async |_: &mut Server, _: Stop| {
            let mut inner = inner(&trace);
            assert!(inner.shutdown().await.is_clean());
        })
        .await;
    assert!(report.is_clean(), "{report}");
}

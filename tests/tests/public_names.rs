//! Every name that users rely on is at the root of the crate, with its documented signature.

use std::process::Termination;
use std::time::{Duration, Instant};

use lifecycle_runtime::{
    BoxError, Component, Connections, Context, DynComponent, Gate, GracefulShutdown, Outcome, Plan,
    Readiness, Reason, Report, Runner, Shutdown, ShutdownHandle, ShutdownState, Signal, Step, Stop,
    TaskGroup, run, run_until_signal,
};
use lifecycle_tests::secs;
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown]
    pool: TaskGroup,
    #[shutdown(state)]
    state: ShutdownState,
}

fn server() -> Server {
    Server {
        pool: TaskGroup::new(),
        state: ShutdownState::default(),
    }
}

/// Each constant fails to compile if the signature of its accessor changes.
const BUDGET: Option<Duration> = Server::PLAN.budget();
const _: fn(&mut ShutdownState) = ShutdownState::disarm;
const _: fn(&Context) -> &Reason = Context::reason;
const _: fn(&Context) -> Duration = Context::remaining;
const _: fn(&Context) -> Instant = Context::deadline;
const _: fn(&ShutdownHandle, Reason) -> bool = ShutdownHandle::request;
const _: fn(&ShutdownHandle) -> bool = ShutdownHandle::is_requested;
const _: fn(&ShutdownHandle) -> CancellationToken = ShutdownHandle::token;
const _: fn(&Report) -> u8 = Report::exit_code;
const _: fn(&Report) -> String = Report::to_mermaid;
const _: fn(&Plan) -> String = Plan::to_mermaid;

fn is_error<T: Into<BoxError>>(_: &T) {}
fn is_termination<T: Termination + Clone>(_: &T) {}
fn is_object(_: &mut dyn DynComponent) {}

#[tokio::test(start_paused = true)]
async fn a_shutdown_its_report_and_its_steps_have_their_accessors() {
    let mut server = server();
    let shutdown: Shutdown<'_, Server> = server.shutdown();
    let report: Report = shutdown.reason(Reason::Requested).within(secs(5)).await;
    assert_eq!(report.component(), "Server");
    assert!(matches!(report.reason(), Reason::Requested));
    assert_eq!(report.elapsed(), Duration::ZERO);
    let steps: &[Step] = report.steps();
    let step: &Step = report.step("pool").expect("it has one");
    assert_eq!((step.name(), steps.len()), ("pool", 1));
    assert_eq!((step.priority(), step.steps().len()), (0, 0));
    assert_eq!((step.started(), step.elapsed()), Default::default());
    assert_eq!(step.budget(), secs(5));
    assert!(matches!(step.outcome(), Outcome::Done));
    is_termination(&report);
    assert!(report.into_result().is_ok());
    assert_eq!(BUDGET, Some(secs(25)), "as it states none");
    assert_eq!(server.plan().budget(), BUDGET);
    is_object(&mut server);
}

#[tokio::test(start_paused = true)]
async fn a_runner_has_all_its_options() {
    let handle = ShutdownHandle::new();
    let report = Runner::build(async |_| Ok::<_, BoxError>(server()))
        .handle(&handle)
        .lame_duck(Duration::ZERO)
        .readiness(&Readiness::new())
        .watchdog(secs(600))
        .grace("30s")
        .finally(|_: &Report| {})
        .exit_code(|_: &Report| 3)
        .run(async |_: &mut Server, _: Stop| {})
        .await;
    assert!(matches!(report.reason(), Reason::MainEnded));
    assert_eq!(report.exit_code(), 3);
    assert!(matches!(handle.requested().await, Reason::MainEnded));
    assert!(handle.progress().unfinished().is_empty());
}

#[tokio::test(start_paused = true)]
async fn run_and_run_until_signal_take_a_server() {
    let report = run(server(), async |_, stop| drop(stop)).await;
    assert!(report.is_clean(), "{report}");
    // The future is dropped without a poll, since it would wait for a signal.
    drop(run_until_signal(server()));
    let _: Option<(Connections, Gate)> = None;
}

#[test]
fn a_reason_is_displayed_as_text() {
    let error = || std::io::Error::other("no port");
    is_error(&error());
    for (reason, text) in [
        (Reason::Requested, "requested"),
        (Reason::Signal(Signal::TERMINATE), "SIGTERM"),
        (Reason::MainEnded, "main ended"),
        (
            Reason::MainFailed(std::sync::Arc::new(error())),
            "main failed: no port",
        ),
        (
            Reason::MainPanicked("no port".into()),
            "main panicked: no port",
        ),
        (
            Reason::StartFailed(std::sync::Arc::new(error())),
            "the start failed: no port",
        ),
    ] {
        assert_eq!(reason.to_string(), text);
    }
}

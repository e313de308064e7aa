//! The work of a runner after the plan: it drops the server, counts the tasks that no field owns, and runs the
//! `finally` hooks.

use std::future::poll_fn;
use std::io::{self, Write as _};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::guard::{Guard, Phase};
use super::options::{Finally, Options};
use crate::context::after;
use crate::engine::{Timer, contain};
use crate::report::Outcome;
use crate::text::Time;
use crate::{GracefulShutdown, Report, Step, clock, log, unawaited};

/// The time for which the drop of a server may block its thread before the report gets a row about it.
const BLOCKING_DROP: Duration = Duration::from_millis(1);

/// The number of times that [`tasks_left`] yields, so that aborted tasks can end before it counts.
const YIELDS: usize = 16;

/// How often and how long [`tasks_left`] waits for tasks that have ended but whose worker thread had no processor time
/// to remove them.
const WAITS: (usize, Duration) = (10, Duration::from_millis(2));

/// Drops the server and runs the `finally` hooks. Each of the two gets a row in the report if it went wrong.
pub(super) async fn end<S: GracefulShutdown>(
    server: Option<S>,
    mut report: Report,
    options: Options,
    guard: &Guard,
) -> Report {
    let Options {
        readiness,
        exit_code,
        finally,
        finally_timeout,
        ..
    } = options;
    // The server is dropped before the hooks run, so that the hooks flush whatever the drop logs.
    if let Some(server) = server {
        guard.enter(Phase::Drop(S::PLAN.name()));
        if let Some(row) = drop_server(server, report.elapsed()) {
            report = report.followed_by(row);
        }
    }
    guard.enter(Phase::Plan);
    report = report.with_tasks_left(tasks_left().await);
    // The caller's choice of exit code is ignored if the end was forced, since that exit code is fixed.
    let chosen = exit_code.filter(|_| report.forced().is_none());
    if let Some(code) = chosen.and_then(|code| contain(|| code(&report)).ok()) {
        report = report.with_exit_code(code);
    }
    log::end(&report, report.exit_code());
    if let Some(readiness) = readiness {
        readiness.stop();
    }
    guard.enter(Phase::Finally);
    match run_finally(&report, finally, finally_timeout).await {
        Some(row) => report.followed_by(row),
        None => report,
    }
}

/// Drops the server's fields, which is foreign code and may block. Returns a row if the drop blocked or panicked, or if
/// it dropped owners without a shutdown.
fn drop_server<S>(server: S, after_plan: Duration) -> Option<Step> {
    let began = Instant::now();
    let mut owners = Vec::new();
    let dropped = unawaited::collect(|| contain(|| drop(server)), |lost| owners = lost);
    let took = began.elapsed();
    let mut row = row("drop", after_plan, took, took);
    row.steps = unawaited::rows(owners, after_plan);
    match dropped {
        Err(message) => row.outcome = Outcome::Panicked(message),
        Ok(()) if took < BLOCKING_DROP && row.steps.is_empty() => return None,
        Ok(()) if took < BLOCKING_DROP => {}
        Ok(()) => row.why = Some(format!("it blocked its thread for {}", Time(took)).into()),
    }
    Some(row)
}

fn row(name: &'static str, started: Duration, elapsed: Duration, budget: Duration) -> Step {
    let mut row = Step::outside_plan(name, started, elapsed, budget);
    row.priority = i32::MAX;
    row
}

/// Returns how many tasks the runtime still has, not counting the task that runs this function.
async fn tasks_left() -> usize {
    let Ok(runtime) = Handle::try_current() else {
        return 0;
    };
    // The future of `block_on` is not a task, so nothing is subtracted for it.
    let own = usize::from(tokio::task::try_id().is_some());
    let left = || runtime.metrics().num_alive_tasks().saturating_sub(own);
    for _ in 0..YIELDS {
        if left() == 0 {
            break;
        }
        tokio::task::yield_now().await;
    }
    let (waits, length) = WAITS;
    for _ in 0..waits {
        if left() == 0 || clock::is_paused() {
            break;
        }
        let (mut timer, until) = (Timer::new(), after(clock::now(), length));
        poll_fn(|cx| timer.poll(Some(until), cx)).await;
    }
    left()
}

/// How the `finally` hooks ended.
enum Hooks {
    Ended(Option<String>),
    LeftBehind,
}

/// Runs the `finally` hooks one after the other, within `timeout`. Returns a row if a hook panicked or the hooks took
/// too long.
async fn run_finally(report: &Report, hooks: Vec<Finally>, timeout: Duration) -> Option<Step> {
    if hooks.is_empty() {
        return None;
    }
    let began = Instant::now();
    let (ended, end) = oneshot::channel();
    let seen = report.clone();
    // The timeout is in real time, since hooks block real threads. On a paused clock the hooks would time out at once.
    let spawned = spawn("lifecycle-finally", move || {
        let (sender, receiver) = mpsc::channel();
        let hooks = spawn("lifecycle-hooks", move || {
            let mut panicked = None;
            for hook in hooks {
                if let Err(message) = contain(|| hook(&seen)) {
                    log::finally_panicked(&message);
                    panicked.get_or_insert(message);
                }
            }
            // Sending fails if the runner no longer waits for the hooks; there is nothing to do then.
            let _ = sender.send(panicked);
        });
        let hooks = hooks.map(|_| match receiver.recv_timeout(timeout) {
            Ok(panicked) => Hooks::Ended(panicked),
            Err(RecvTimeoutError::Disconnected) => Hooks::Ended(None),
            Err(RecvTimeoutError::Timeout) => Hooks::LeftBehind,
        });
        // Sending fails if the runner was dropped; there is nothing to do then.
        let _ = ended.send(hooks);
    });
    let hooks = match spawned {
        Ok(_) => end.await.unwrap_or(Ok(Hooks::Ended(None))),
        Err(error) => Err(error),
    };
    let mut row = row("finally", report.elapsed(), began.elapsed(), timeout);
    match hooks {
        // Hooks that all ended well need no row.
        Ok(Hooks::Ended(None)) => return None,
        Ok(Hooks::Ended(Some(message))) => row.outcome = Outcome::Panicked(message),
        Ok(Hooks::LeftBehind) => {
            row.outcome = Outcome::TimedOut {
                waiting_for: Some("its hooks, which are left behind".into()),
            };
            report_left_behind(timeout);
        }
        Err(error) => {
            log::no_thread("the `finally` hooks", &error);
            row.outcome = Outcome::Failed(std::sync::Arc::new(error));
        }
    }
    Some(row)
}

/// Reports that the runner no longer waits for its hooks. The text goes to the log and to stderr, since the log may
/// already have been flushed for the last time.
fn report_left_behind(timeout: Duration) {
    log::finally_left(timeout);
    let text = format!(
        "lifecycle: the `finally` hooks took more than {} and are left behind\n",
        Time(timeout)
    );
    // The result is ignored: if stderr is closed, the text has nowhere to go.
    let _ = io::stderr().write_all(text.as_bytes());
}

fn spawn(name: &str, f: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.into()).spawn(f)
}

//! What comes after the plan: the server's own drop, the tasks that nobody declared, the `finally` hooks.

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

/// How long the drop of a server may hold its thread before the report tells of it. A shorter one is not worth a row.
const BLOCKING_DROP: Duration = Duration::from_millis(1);

/// How often aborted tasks get the chance to go before they are counted.
const TURNS: usize = 16;

/// How long the count waits, and how often, for tasks that have ended on a worker which does not get the processor.
const WAITS: (usize, Duration) = (10, Duration::from_millis(2));

/// Drops the server and runs the hooks. What went wrong with either has a row in the report.
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
    // Before the hooks, so that they flush what its drop still says.
    if let Some(server) = server {
        guard.enter(Phase::Drop(S::PLAN.name()));
        if let Some(row) = drop_server(server, report.elapsed()) {
            report = report.followed_by(row);
        }
    }
    guard.enter(Phase::Plan);
    report = report.with_tasks_left(tasks_left().await);
    // A forced end is no longer the program's to name.
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

/// Drops the server's fields, which is foreign code and may block. Returns the row of a drop that did, or panicked.
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

/// How many tasks the runtime still has beside the one that this runs in.
async fn tasks_left() -> usize {
    let Ok(runtime) = Handle::try_current() else {
        return 0;
    };
    // What `block_on` runs is no task.
    let own = usize::from(tokio::task::try_id().is_some());
    let left = || runtime.metrics().num_alive_tasks().saturating_sub(own);
    for _ in 0..TURNS {
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

/// How the hooks ended.
enum Hooks {
    Ended(Option<String>),
    LeftBehind,
}

/// Runs the hooks one after the other, within their time. Returns their row if they did not all end well.
async fn run_finally(report: &Report, hooks: Vec<Finally>, timeout: Duration) -> Option<Step> {
    if hooks.is_empty() {
        return None;
    }
    let began = Instant::now();
    let (ended, end) = oneshot::channel();
    let told = report.clone();
    // Real time, since hooks block real threads: a paused clock would leave them behind at once.
    let spawned = spawn("lifecycle-finally", move || {
        let (ends, in_time) = mpsc::channel();
        let hooks = spawn("lifecycle-hooks", move || {
            let mut panicked = None;
            for hook in hooks {
                if let Err(message) = contain(|| hook(&told)) {
                    log::finally_panicked(&message);
                    panicked.get_or_insert(message);
                }
            }
            // Nobody waits any more if they were left behind.
            let _ = ends.send(panicked);
        });
        let hooks = hooks.map(|_| match in_time.recv_timeout(timeout) {
            Ok(panicked) => Hooks::Ended(panicked),
            Err(RecvTimeoutError::Disconnected) => Hooks::Ended(None),
            Err(RecvTimeoutError::Timeout) => Hooks::LeftBehind,
        });
        // The runner may have left.
        let _ = ended.send(hooks);
    });
    let hooks = match spawned {
        Ok(_) => end.await.unwrap_or(Ok(Hooks::Ended(None))),
        Err(error) => Err(error),
    };
    let mut row = row("finally", report.elapsed(), began.elapsed(), timeout);
    match hooks {
        // A row for each end that went well would tell nothing.
        Ok(Hooks::Ended(None)) => return None,
        Ok(Hooks::Ended(Some(message))) => row.outcome = Outcome::Panicked(message),
        Ok(Hooks::LeftBehind) => {
            row.outcome = Outcome::TimedOut {
                waiting_for: Some("its hooks, which are left behind".into()),
            };
            say_left_behind(timeout);
        }
        Err(error) => {
            log::no_thread("the `finally` hooks", &error);
            row.outcome = Outcome::Failed(std::sync::Arc::new(error));
        }
    }
    Some(row)
}

/// On standard error too, since it is the log that may have been flushed last.
fn say_left_behind(timeout: Duration) {
    log::finally_left(timeout);
    let text = format!(
        "lifecycle: the `finally` hooks took more than {} and are left behind\n",
        Time(timeout)
    );
    // Nobody is left to tell if stderr is gone.
    let _ = io::stderr().write_all(text.as_bytes());
}

fn spawn(name: &str, f: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.into()).spawn(f)
}

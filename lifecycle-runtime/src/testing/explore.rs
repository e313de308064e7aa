//! Every step of a server, with every fault.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};

use super::{Fault, faults, record_drops};
use crate::{GracefulShutdown, Outcome, Plan, Report, Step};

/// How late a report may be: what timers are rounded to, on paused time.
const SLACK: Duration = Duration::from_millis(50);

/// What [`explore`] has tried.
#[derive(Clone, Debug)]
pub struct Explored {
    /// Each step that was tried, and the fault, with the report that came of it.
    pub cases: Vec<(String, Fault, Report)>,
}

/// Shuts a server down once for each of its steps and each [`Fault`], on paused time, and asserts what a
/// shutdown promises: the report is whole and in time, only the step with the fault (and what a
/// `required` one takes with it) is not done, and nothing is left running or un-awaited.
///
/// Steps of nested plans are tried too; those of enums as far as they are live.
///
/// ```
/// use lifecycle_runtime::{GracefulShutdown, ShutdownState, TaskGroup, testing};
/// use tokio_util::sync::CancellationToken;
///
/// #[derive(GracefulShutdown)]
/// #[shutdown(strict)]
/// struct Server {
///     #[shutdown(priority = 0)]
///     token: CancellationToken,
///     #[shutdown(priority = 10)]
///     tasks: TaskGroup,
///     #[shutdown(state)]
///     state: ShutdownState,
/// }
///
/// let explored = testing::explore(async || Server {
///     token: CancellationToken::new(),
///     tasks: TaskGroup::new(),
///     state: ShutdownState::new(),
/// });
/// assert_eq!(explored.cases.len(), 2 * testing::Fault::ALL.len());
/// ```
///
/// # Panics
///
/// When a promise is broken, with the step, the fault and the report. Also inside a runtime, since it
/// makes its own.
pub fn explore<S: GracefulShutdown>(build: impl AsyncFn() -> S) -> Explored {
    let mut paths = Vec::new();
    leaves(&S::PLAN, "", &mut paths);
    let mut cases = Vec::new();
    for path in paths {
        for fault in Fault::ALL {
            if let Some(report) = case(&build, &path, fault) {
                cases.push((path.clone(), fault, report));
            }
        }
    }
    Explored { cases }
}

/// The paths of the innermost steps.
fn leaves(plan: &Plan, above: &str, paths: &mut Vec<String>) {
    for step in plan.steps() {
        let path = match above {
            "" => step.name().to_owned(),
            above => format!("{above}.{}", step.name()),
        };
        match step.nested() {
            // Of an enum only the live variant has rows, without a row for the variant itself.
            Some(nested) if nested.one_of => {
                for variant in nested.steps().iter().filter_map(|variant| variant.nested()) {
                    leaves(variant, &path, paths);
                }
            }
            Some(nested) => leaves(nested, &path, paths),
            None => paths.push(path),
        }
    }
}

fn case<S: GracefulShutdown>(
    build: &impl AsyncFn() -> S,
    path: &str,
    fault: Fault,
) -> Option<Report> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build();
    let runtime = runtime.unwrap_or_else(|error| panic!("no runtime could be built: {error}"));
    let report = runtime.block_on(async {
        let mut server = build().await;
        let budget = server.plan().budget().unwrap_or_default();
        let drops = record_drops();
        faults::plan(path, fault);
        let report = shut_down(&mut server, fault).await;
        let tried = faults::clear();
        drop(server);
        drop(drops);
        if !tried.reached {
            return None;
        }
        let mut wrong = wrong(&S::PLAN, &report, path, fault, budget).await;
        for (step, message) in tried.bad_aborts {
            wrong.push(format!("the abort of `{step}` panicked: {message}"));
        }
        assert!(
            wrong.is_empty(),
            "when `{path}` {fault}:\n  {}\n{report}",
            wrong.join("\n  ")
        );
        Some(report)
    });
    runtime.shutdown_background();
    report
}

async fn shut_down<S: GracefulShutdown>(server: &mut S, fault: Fault) -> Report {
    if fault == Fault::DroppedHere {
        let mut shutdown = pin!(server.shutdown());
        let early = poll_fn(|cx| match shutdown.as_mut().poll(cx) {
            Poll::Ready(report) => Poll::Ready(Some(report)),
            Poll::Pending if faults::reached() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        });
        if let Some(report) = early.await {
            return report;
        }
        faults::lift();
    }
    server.shutdown().await
}

/// Which promises are broken.
async fn wrong(
    plan: &Plan,
    report: &Report,
    path: &str,
    fault: Fault,
    budget: Duration,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let missing: Vec<_> = plan
        .steps()
        .iter()
        .filter(|step| report.step(step.name()).is_none())
        .collect();
    for step in missing {
        wrong.push(format!("the report has no row for `{}`", step.name()));
    }
    if report.elapsed() > budget + SLACK {
        wrong.push(format!("it took {:?} of {budget:?}", report.elapsed()));
    }
    match report.step(path).map(Step::outcome) {
        Some(outcome) if !fits(outcome, fault) => wrong.push(format!("the step is {outcome}")),
        Some(_) => {}
        None => wrong.push("the report has no row for it".into()),
    }
    let mut others = BTreeSet::new();
    not_done(report.steps(), "", &mut others);
    others.retain(|other| !path.starts_with(other.as_str()));
    for other in others {
        wrong.push(format!("`{other}` is not done, without a fault"));
    }
    // Tasks that were aborted are gone once the runtime got to them.
    for _ in 0..16 {
        tokio::task::yield_now().await;
    }
    match Handle::current().metrics().num_alive_tasks() {
        0 => {}
        tasks => wrong.push(format!("{tasks} tasks are left running")),
    }
    wrong
}

fn fits(outcome: &Outcome, fault: Fault) -> bool {
    matches!(
        (fault, outcome),
        (
            Fault::None | Fault::Slow | Fault::DroppedHere,
            Outcome::Done
        ) | (Fault::Error, Outcome::Failed(_))
            | (Fault::Panic, Outcome::Panicked(_))
            | (Fault::Hang, Outcome::TimedOut { .. })
    )
}

/// The innermost steps that are neither done nor skipped.
fn not_done(steps: &[Step], above: &str, paths: &mut BTreeSet<String>) {
    for step in steps {
        let path = match above {
            "" => step.name().to_owned(),
            above if step.name().starts_with('[') => format!("{above}{}", step.name()),
            above => format!("{above}.{}", step.name()),
        };
        if !step.steps().is_empty() {
            not_done(step.steps(), &path, paths);
        } else if !matches!(step.outcome(), Outcome::Done | Outcome::Skipped) {
            paths.insert(path);
        }
    }
}

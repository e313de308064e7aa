//! The exploration of a server's shutdown: every step with every fault.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};

use super::{Fault, faults, record_drops};
use crate::{GracefulShutdown, Outcome, Plan, Report, Step};

/// The time by which a report may be late, since timers are rounded on paused time.
const SLACK: Duration = Duration::from_millis(50);

/// The result of [`explore`].
#[derive(Clone, Debug)]
pub struct Explored {
    /// The explored cases: the path of a step, the fault, and the report of the shutdown with that fault.
    pub cases: Vec<(String, Fault, Report)>,
}

/// Shuts a server down once for each of its steps and each [`Fault`], on paused time, and asserts the promises of a
/// shutdown: The report is complete and in time. Only the step with the fault, and the steps that are skipped because a
/// `required` step failed, are not done. No task is left running or un-awaited.
///
/// The function also explores the steps of nested plans. Of an enum it explores the live variant.
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
/// If a promise is broken. The message has the step, the fault and the report. The function also panics inside a
/// runtime, since it creates its own.
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

/// Collects the paths of the innermost steps of `plan`.
fn leaves(plan: &Plan, above: &str, paths: &mut Vec<String>) {
    for step in plan.steps() {
        let path = match above {
            "" => step.name().to_owned(),
            above => format!("{above}.{}", step.name()),
        };
        match step.nested() {
            // The variant's steps are collected without the variant: only the live variant of an enum has rows, and the
            // variant itself has none.
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
        let mut broken = broken_promises(&S::PLAN, &report, path, fault, budget).await;
        for (step, message) in tried.bad_aborts {
            broken.push(format!("the abort of `{step}` panicked: {message}"));
        }
        assert!(
            broken.is_empty(),
            "when `{path}` {fault}:\n  {}\n{report}",
            broken.join("\n  ")
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

/// Lists the promises that the shutdown of one case broke.
async fn broken_promises(
    plan: &Plan,
    report: &Report,
    path: &str,
    fault: Fault,
    budget: Duration,
) -> Vec<String> {
    let mut broken = Vec::new();
    let missing: Vec<_> = plan
        .steps()
        .iter()
        .filter(|step| report.step(step.name()).is_none())
        .collect();
    for step in missing {
        broken.push(format!("the report has no row for `{}`", step.name()));
    }
    if report.elapsed() > budget + SLACK {
        broken.push(format!("it took {:?} of {budget:?}", report.elapsed()));
    }
    match report.step(path).map(Step::outcome) {
        Some(outcome) if !fits(outcome, fault) => broken.push(format!("the step is {outcome}")),
        Some(_) => {}
        None => broken.push("the report has no row for it".into()),
    }
    let mut others = BTreeSet::new();
    not_done(report.steps(), "", &mut others);
    others.retain(|other| !path.starts_with(other.as_str()));
    for other in others {
        broken.push(format!("`{other}` is not done, without a fault"));
    }
    // The yields let the runtime drop aborted tasks.
    for _ in 0..16 {
        tokio::task::yield_now().await;
    }
    match Handle::current().metrics().num_alive_tasks() {
        0 => {}
        tasks => broken.push(format!("{tasks} tasks are left running")),
    }
    broken
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

/// Collects the innermost steps that are neither done nor skipped.
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

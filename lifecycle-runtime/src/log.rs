//! The events of the log. All have the target `lifecycle`, and their message is their name.
//!
//! Users rely on these events, so the guide has a table of the events, their levels and fields
//! (`guide/logs_and_spans.md`).
//!
//! A clean shutdown logs nothing above INFO. Its events are inside its spans (`engine::span`).

use std::time::{Duration, Instant};

use tracing::level_filters::LevelFilter;
use tracing::{Level, debug, error, info, warn};

use crate::engine::{EndedStep, RunningPlan, StepHandle, contain};
use crate::report::{Outcome, Report};
use crate::text::millis;
use crate::{Reason, Step};

/// Logs an event of target `lifecycle`. The subscriber and the values that it formats are foreign code, so panics are
/// contained. The macro costs nothing while no subscriber listens.
macro_rules! event {
    (error, $($event:tt)*) => { event!(Level::ERROR, error!($($event)*)) };
    (warn, $($event:tt)*) => { event!(Level::WARN, warn!($($event)*)) };
    (info, $($event:tt)*) => { event!(Level::INFO, info!($($event)*)) };
    (debug, $($event:tt)*) => { event!(Level::DEBUG, debug!($($event)*)) };
    ($level:expr, $log:ident!($($event:tt)*)) => {
        if $level <= LevelFilter::current() {
            let _ = contain(|| $log!(target: "lifecycle", $($event)*));
        }
    };
}

/// Returns whether a subscriber may read events.
pub(crate) fn is_read() -> bool {
    LevelFilter::current() != LevelFilter::OFF
}

pub(crate) fn begin(component: &str, reason: &Reason, lame_duck: Duration, budget: Duration) {
    event!(
        info,
        component,
        %reason,
        lame_duck_ms = millis(lame_duck),
        budget_ms = millis(budget),
        "shutdown_begin"
    );
}

pub(crate) fn progress(plan: &RunningPlan, now: Instant) {
    if Level::INFO > LevelFilter::current() {
        return;
    }
    let unfinished = plan.unfinished(now);
    let running = unfinished.iter().filter(|step| step.running);
    let names: Vec<_> = running.clone().map(|step| step.path.as_str()).collect();
    let waiting_for: Vec<_> = running
        .filter_map(|step| Some(format!("{}: {}", step.path, step.waiting_for.as_ref()?)))
        .collect();
    event!(
        info,
        component = plan.component,
        unfinished = names.join(", "),
        waiting_for = waiting_for.join("; "),
        elapsed_ms = millis(now.saturating_duration_since(plan.shared.began)),
        remaining_ms = millis(plan.deadline().saturating_duration_since(now)),
        "shutdown_progress"
    );
}

pub(crate) fn step_end(ended: &EndedStep) {
    /// This is a macro, since the level of an event is part of its call site.
    macro_rules! step_end {
        ($level:ident, $step:ident, $($field:tt)*) => {
            event!(
                $level,
                step = ended.path,
                outcome = $step.outcome.word(),
                elapsed_ms = millis($step.elapsed()),
                budget_ms = millis($step.budget()),
                over_ms = millis($step.elapsed().saturating_sub($step.budget())),
                $($field)*
                "step_end"
            )
        };
    }
    let step = &ended.step;
    // Displaying an error runs foreign code, whose panics `Chain` contains.
    let (error, waiting_for) = match &step.outcome {
        Outcome::Done if step.is_element() => return step_end!(debug, step,),
        Outcome::Done => return step_end!(info, step,),
        Outcome::TimedOut { waiting_for } => (step.why.as_deref(), waiting_for.clone()),
        _ => (None, None),
    };
    let detail = match step.outcome {
        Outcome::TimedOut { .. } => None,
        _ => step.detail(),
    };
    let error = error.or(detail.as_deref());
    if step.nothing {
        // The field is called `why` and not `error`, since nothing went wrong.
        step_end!(info, step, why = step.why.as_deref(),);
    } else if ended.best_effort {
        step_end!(warn, step, error, waiting_for,);
    } else {
        step_end!(error, step, error, waiting_for,);
    }
}

pub(crate) fn end(report: &Report, exit_code: u8) {
    if !is_read() {
        return;
    }
    let mut counts = Counts::default();
    counts.add(report.steps());
    let slowest = report.steps().iter().max_by_key(|step| step.elapsed());
    macro_rules! shutdown_end {
        ($level:ident) => {
            event!(
                $level,
                component = report.component(),
                reason = %report.reason(),
                done = counts.done,
                failed = counts.failed,
                panicked = counts.panicked,
                timed_out = counts.timed_out,
                aborted = counts.aborted,
                skipped = counts.skipped,
                slowest = slowest.map(Step::name),
                elapsed_ms = millis(report.elapsed()),
                forced = report.forced().is_some(),
                hurried = report.was_hurried(),
                exit_code,
                "shutdown_end"
            )
        };
    }
    if exit_code == 0 {
        shutdown_end!(info);
    } else {
        shutdown_end!(error);
    }
}

/// The number of steps with each outcome. A step with nested steps is not counted itself; its nested steps are.
#[derive(Default)]
struct Counts {
    done: u64,
    failed: u64,
    panicked: u64,
    timed_out: u64,
    aborted: u64,
    skipped: u64,
}

impl Counts {
    fn add(&mut self, steps: &[Step]) {
        for step in steps {
            if !step.steps().is_empty() {
                self.add(step.steps());
                continue;
            }
            *match step.outcome() {
                Outcome::Done => &mut self.done,
                Outcome::Failed(_) => &mut self.failed,
                Outcome::Panicked(_) => &mut self.panicked,
                Outcome::TimedOut { .. } => &mut self.timed_out,
                Outcome::Aborted => &mut self.aborted,
                Outcome::Skipped => &mut self.skipped,
            } += 1;
        }
    }
}

pub(crate) fn dropped(component: &str, fields: &[&str]) {
    #[cfg(feature = "testing")]
    crate::testing::dropped(component, fields);
    crate::unawaited::record(component, fields);
    let panicking = std::thread::panicking();
    if !tracing::dispatcher::has_been_set() {
        // No subscriber was ever set, so the line goes to stderr, as the line of the default panic hook does.
        let fields = fields.join(", ");
        let line = format!(
            "lifecycle: dropped_unshut component={component} fields=\"{fields}\" panicking={panicking}\n"
        );
        // The result is ignored: if stderr is closed, the line has nowhere to go.
        let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
        return;
    }
    event!(
        warn,
        component,
        fields = fields.join(", "),
        panicking,
        "dropped_unshut"
    );
}

pub(crate) fn shrunk(component: &str, needed: Duration, given: Duration) {
    event!(
        warn,
        component,
        needed_ms = millis(needed),
        given_ms = millis(given),
        "the steps need more time than the plan has: every budget is shortened in proportion"
    );
}

pub(crate) fn timeout_panicked(component: &str, message: &str) {
    event!(
        error,
        component,
        error = message,
        "a `timeout = …` expression panicked: its step gets the time that the other steps leave"
    );
}

pub(crate) fn abort_panicked(step: &StepHandle, message: &str) {
    #[cfg(feature = "testing")]
    crate::testing::abort_panicked(&step.path(), message);
    event!(
        error,
        step = step.path(),
        error = message,
        "an `abort` panicked"
    );
}

pub(crate) fn part_abort_panicked(message: &str) {
    event!(error, error = message, "an `abort` panicked");
}

pub(crate) fn release_panicked(message: &str) {
    event!(error, error = message, "a `release` panicked");
}

pub(crate) fn no_timer(error: &std::io::Error) {
    event!(
        error,
        %error,
        "no timer: outside tokio a deadline needs a thread, and none could be started"
    );
}

pub(crate) fn forced(plan: &RunningPlan, by: crate::Force) {
    event!(warn, component = plan.component, %by, "shutdown_forced");
}

pub(crate) fn on_force_panicked(message: &str) {
    event!(error, error = message, "an `on_force` hook panicked");
}

pub(crate) fn finally_panicked(message: &str) {
    event!(error, error = message, "a `finally` hook panicked");
}

pub(crate) fn finally_left(timeout: Duration) {
    event!(
        error,
        timeout_ms = millis(timeout),
        "the `finally` hooks outlasted their timeout and are left behind"
    );
}

pub(crate) fn no_thread(what: &str, error: &std::io::Error) {
    event!(error, %error, "no thread could be started for {what}");
}

pub(crate) fn no_signals(error: &std::io::Error) {
    event!(error, %error, "signals cannot be received: only main and handles begin the shutdown");
}

pub(crate) fn not_hooked(signal: crate::Signal, error: &std::io::Error) {
    event!(error, %signal, %error, "a signal cannot be received: its hook is never called");
}

pub(crate) fn task_failed(task: &str, error: &(dyn std::error::Error + 'static)) {
    event!(error, task, error = %crate::reason::Chain(error), "task_failed");
}

pub(crate) fn task_restart(
    task: &str,
    error: &(dyn std::error::Error + 'static),
    restarts: u64,
    wait: Duration,
) {
    event!(
        warn,
        task,
        error = %crate::reason::Chain(error),
        restarts,
        wait_ms = millis(wait),
        "task_restart"
    );
}

pub(crate) fn connection_failed(
    connection: &crate::Connection,
    error: &(dyn std::error::Error + 'static),
) {
    event!(debug, %connection, error = %crate::reason::Chain(error), "connection_failed");
}

#[cfg(feature = "state-file")]
pub(crate) fn state_set_aside(path: &std::path::Path, why: &str, aside: &std::path::Path) {
    event!(
        warn,
        path = %path.display(),
        error = why,
        aside = %aside.display(),
        "an unusable state file was set aside; the state starts with its default"
    );
}

#[cfg(feature = "state-file")]
pub(crate) fn state_not_saved(path: &std::path::Path, error: &(dyn std::error::Error + 'static)) {
    event!(warn, path = %path.display(), %error, "a state file was not saved");
}

pub(crate) fn executor_blocked(plan: &RunningPlan, since: Duration) {
    // This call reads only the flags of the steps. Calling a component's `waiting_for` closure could wait for the very
    // lock that blocks the executor.
    let steps = plan.unfinished_steps(Instant::now());
    let polled = steps
        .iter()
        .filter(|step| step.view.is_polled())
        .map(|step| step.view.path());
    let steps: Vec<_> = polled.collect();
    event!(
        warn,
        component = plan.component,
        steps = steps.join(", "),
        blocked_ms = millis(since),
        "executor_blocked"
    );
}

pub(crate) fn lame_duck_end(component: &str, step: &Step) {
    event!(
        info,
        component,
        outcome = %step.outcome(),
        elapsed_ms = millis(step.elapsed()),
        "lame_duck_end"
    );
}

pub(crate) fn main_share(component: &str, budget: Duration, reserve: Duration) {
    event!(
        info,
        component,
        main_ms = millis(budget.saturating_sub(reserve)),
        budget_ms = millis(budget),
        "main_share"
    );
}

pub(crate) fn grace_short(
    component: &str,
    grace: Duration,
    lame_duck: Duration,
    budget: Duration,
    after: Duration,
) {
    event!(
        warn,
        component,
        grace_ms = millis(grace),
        lame_duck_ms = millis(lame_duck),
        budget_ms = millis(budget),
        after_ms = millis(after),
        "grace_short"
    );
}

pub(crate) fn hook_panicked(signal: crate::Signal, message: &str) {
    event!(error, %signal, error = message, "the hook of a signal panicked");
}

//! The log contract: events of target `lifecycle`, named by their message.
//!
//! | event | level | fields |
//! |---|---|---|
//! | `shutdown_begin` | INFO | component, reason, lame_duck_ms, budget_ms |
//! | `shutdown_progress` | INFO | unfinished, waiting_for, elapsed_ms, remaining_ms |
//! | `step_end` | INFO; DEBUG for an element that is done; WARN or, for a step that is not `best_effort`, ERROR otherwise | step, outcome, elapsed_ms, budget_ms, over_ms, error, waiting_for |
//! | `shutdown_end` | INFO if clean, else ERROR | component, reason, done, failed, panicked, timed_out, skipped, slowest, elapsed_ms, forced, exit_code |
//! | `connection_failed` | DEBUG, as clients do that | connection, error |
//! | `task_failed` | ERROR | task, error |
//! | `shutdown_forced` | WARN | component, by |
//! | `executor_blocked` | WARN | component, steps, blocked_ms |
//! | `lame_duck_end` | INFO | component, outcome, elapsed_ms |
//! | `grace_short` | WARN, at start | component, grace_ms, lame_duck_ms, budget_ms, after_ms |
//! | `dropped_unshut` | WARN | component, fields, panicking |
//!
//! A clean shutdown is INFO throughout.

use std::time::{Duration, Instant};

use tracing::{debug, error, info, warn};

use crate::engine::{Ended, Live, Seat};
use crate::report::{Outcome, Report};
use crate::{Reason, Step};

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn begin(component: &str, reason: &Reason, lame_duck: Duration, budget: Duration) {
    info!(
        target: "lifecycle",
        component,
        %reason,
        lame_duck_ms = millis(lame_duck),
        budget_ms = millis(budget),
        "shutdown_begin"
    );
}

pub(crate) fn progress(live: &Live, now: Instant) {
    let unfinished = live.unfinished(now);
    let running = unfinished.iter().filter(|step| step.running);
    let names: Vec<_> = running.clone().map(|step| step.path.as_str()).collect();
    let waiting_for: Vec<_> = running
        .filter_map(|step| Some(format!("{}: {}", step.path, step.waiting_for.as_ref()?)))
        .collect();
    info!(
        target: "lifecycle",
        component = live.component,
        unfinished = names.join(", "),
        waiting_for = waiting_for.join("; "),
        elapsed_ms = millis(now.saturating_duration_since(live.origin.began)),
        remaining_ms = millis(live.deadline.saturating_duration_since(now)),
        "shutdown_progress"
    );
}

pub(crate) fn step_end(ended: &Ended<'_>) {
    /// The level of an event is part of its call site.
    macro_rules! step_end {
        ($level:ident, $($field:tt)*) => {
            $level!(
                target: "lifecycle",
                step = ended.path(),
                outcome = ended.outcome.word(),
                elapsed_ms = millis(ended.elapsed),
                budget_ms = millis(ended.budget),
                over_ms = millis(ended.elapsed.saturating_sub(ended.budget)),
                $($field)*
                "step_end"
            )
        };
    }
    let (error, waiting_for) = match &ended.outcome {
        Outcome::Done if ended.element => return step_end!(debug,),
        Outcome::Done => return step_end!(info,),
        Outcome::TimedOut { waiting_for } => (None, waiting_for.clone()),
        other => (other.detail(), None),
    };
    if ended.best_effort {
        step_end!(warn, error, waiting_for,);
    } else {
        step_end!(error, error, waiting_for,);
    }
}

pub(crate) fn end(report: &Report, exit_code: u8) {
    let mut counts = Counts::default();
    counts.add(report.steps());
    let slowest = report.steps().iter().max_by_key(|step| step.elapsed());
    macro_rules! shutdown_end {
        ($level:ident) => {
            $level!(
                target: "lifecycle",
                component = report.component(),
                reason = %report.reason(),
                done = counts.done,
                failed = counts.failed,
                panicked = counts.panicked,
                timed_out = counts.timed_out,
                skipped = counts.skipped,
                slowest = slowest.map(Step::name),
                elapsed_ms = millis(report.elapsed()),
                forced = report.forced().is_some(),
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

/// Steps by outcome; a step with steps of its own is counted by those.
#[derive(Default)]
struct Counts {
    done: u64,
    failed: u64,
    panicked: u64,
    timed_out: u64,
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
                Outcome::Skipped => &mut self.skipped,
            } += 1;
        }
    }
}

pub(crate) fn dropped(component: &str, fields: &[&str]) {
    #[cfg(feature = "testing")]
    crate::testing::dropped(component, fields);
    warn!(
        target: "lifecycle",
        component,
        fields = fields.join(", "),
        panicking = std::thread::panicking(),
        "dropped_unshut"
    );
}

pub(crate) fn shrunk(component: &str, needed: Duration, given: Duration) {
    warn!(
        target: "lifecycle",
        component,
        needed_ms = millis(needed),
        given_ms = millis(given),
        "the steps need more time than the plan has: every budget shrinks in proportion"
    );
}

pub(crate) fn timeout_panicked(component: &str, message: &str) {
    error!(
        target: "lifecycle",
        component,
        error = message,
        "a `timeout = …` expression panicked: its step has what the others leave"
    );
}

pub(crate) fn abort_panicked(seat: Option<&Seat>, message: &str) {
    #[cfg(feature = "testing")]
    crate::testing::abort_panicked(&seat.map(Seat::path).unwrap_or_default(), message);
    error!(
        target: "lifecycle",
        step = seat.map(Seat::path),
        error = message,
        "an `abort` panicked"
    );
}

pub(crate) fn release_panicked(message: &str) {
    error!(target: "lifecycle", error = message, "a `release` panicked");
}

pub(crate) fn no_timer(error: &std::io::Error) {
    error!(
        target: "lifecycle",
        %error,
        "no timer: outside tokio a deadline needs a thread, and none could be started"
    );
}

pub(crate) fn forced(live: &Live, by: crate::Force) {
    warn!(target: "lifecycle", component = live.component, %by, "shutdown_forced");
}

pub(crate) fn on_force_panicked(message: &str) {
    error!(target: "lifecycle", error = message, "an `on_force` hook panicked");
}

pub(crate) fn finally_panicked(message: &str) {
    error!(target: "lifecycle", error = message, "a `finally` hook panicked");
}

pub(crate) fn finally_left() {
    warn!(target: "lifecycle", "the `finally` hooks took more than 1 s and are left behind");
}

pub(crate) fn no_thread(what: &str, error: &std::io::Error) {
    error!(target: "lifecycle", %error, "no thread could be started for {what}");
}

pub(crate) fn no_signals(error: &std::io::Error) {
    error!(target: "lifecycle", %error, "signals are not heard: only main and handles begin the shutdown");
}

pub(crate) fn not_hooked(signal: crate::Signal, error: &std::io::Error) {
    error!(target: "lifecycle", %signal, %error, "a signal cannot be heard: its hook is never called");
}

pub(crate) fn task_failed(task: &str, error: &(dyn std::error::Error + 'static)) {
    error!(target: "lifecycle", task, error = %crate::reason::Chain(error), "task_failed");
}

pub(crate) fn connection_failed(
    connection: &crate::Connection,
    error: &(dyn std::error::Error + 'static),
) {
    debug!(target: "lifecycle", %connection, error = %crate::reason::Chain(error), "connection_failed");
}

#[cfg(feature = "state-file")]
pub(crate) fn state_set_aside(
    path: &std::path::Path,
    why: &str,
    aside: Result<&std::path::PathBuf, &std::io::Error>,
) {
    let path = path.display();
    match aside {
        Ok(aside) => warn!(
            target: "lifecycle",
            %path,
            error = why,
            aside = %aside.display(),
            "a state file is set aside, the state starts anew"
        ),
        Err(error) => warn!(
            target: "lifecycle",
            %path,
            error = why,
            aside_error = %error,
            "a state file cannot be used nor set aside, the state starts anew"
        ),
    }
}

#[cfg(feature = "state-file")]
pub(crate) fn state_not_saved(path: &std::path::Path, error: &(dyn std::error::Error + 'static)) {
    warn!(target: "lifecycle", path = %path.display(), %error, "a state file was not saved");
}

pub(crate) fn executor_blocked(live: &Live, since: Duration) {
    // No component is asked what it waits for: it may well wait for what is blocked.
    let steps = live.open_steps(Instant::now());
    let polled = steps
        .iter()
        .filter(|step| step.view.is_polled())
        .map(|step| step.view.path());
    let steps: Vec<_> = polled.collect();
    warn!(
        target: "lifecycle",
        component = live.component,
        steps = steps.join(", "),
        blocked_ms = millis(since),
        "executor_blocked"
    );
}

pub(crate) fn lame_duck_end(component: &str, step: &Step) {
    info!(
        target: "lifecycle",
        component,
        outcome = %step.outcome(),
        elapsed_ms = millis(step.elapsed()),
        "lame_duck_end"
    );
}

pub(crate) fn grace_short(
    component: &str,
    grace: Duration,
    lame_duck: Duration,
    budget: Duration,
    after: Duration,
) {
    warn!(
        target: "lifecycle",
        component,
        grace_ms = millis(grace),
        lame_duck_ms = millis(lame_duck),
        budget_ms = millis(budget),
        after_ms = millis(after),
        "grace_short"
    );
}

pub(crate) fn grace_unreadable(component: &str) {
    warn!(
        target: "lifecycle",
        component,
        "the grace period is no duration such as \"30s\" or \"1m 30s\": nothing is checked"
    );
}

pub(crate) fn hook_panicked(signal: crate::Signal, message: &str) {
    error!(target: "lifecycle", %signal, error = message, "the hook of a signal panicked");
}

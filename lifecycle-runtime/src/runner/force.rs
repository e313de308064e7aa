//! The forced end of a process: it exits, whatever the process's other threads are doing.

use std::fmt;
use std::io::Write as _;
use std::process;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use std::vec;

use super::guard::Phase;
use crate::engine::{ForceHook, RunningPlan, UnfinishedStep, contain};
use crate::text::Time;
use crate::{Force, Outcome, Report, Step, StepProgress, clock, log};

/// The time that the engine has to abort the running steps, once it is told to.
const ABORT_TIME: Duration = Duration::from_secs(1);

/// The time in which components can describe their waits, before the `on_force` hooks run.
const ANSWER_TIME: Duration = Duration::from_millis(250);

/// The time that `on_force` hooks have before the engine is told to abort. Slower hooks continue while the engine
/// aborts.
const HOOK_TIME: Duration = Duration::from_secs(1);

/// The largest number of threads that run hooks. If this many hooks hang, the hooks that have not started never run.
const MAX_THREADS: usize = 8;

/// The runners of a process whose end is forced.
pub(super) struct Forced {
    pub(super) runners: Vec<ForcedRunner>,
    /// Whether any runner has not ended.
    pub(super) running: bool,
}

/// A runner of a process whose end is forced, and what the runner is doing.
pub(super) struct ForcedRunner {
    pub(super) plan: Option<Arc<RunningPlan>>,
    pub(super) phase: Phase,
}

/// Exits the process, within the sum of [`ANSWER_TIME`], [`HOOK_TIME`] and [`ABORT_TIME`].
pub(super) fn force(by: Force, what: Forced) -> ! {
    let Forced { runners, running } = what;
    let plans = runners.iter().filter_map(|runner| runner.plan.clone());
    let plans: Vec<_> = plans.collect();
    // The unfinished steps and their hooks are taken before the engine is told to abort, since the engine drops both
    // when it ends the steps.
    let open = plans
        .iter()
        .flat_map(|plan| plan.unfinished_steps(clock::now()))
        .collect();
    let hooks = plans.iter().flat_map(|plan| plan.take_hooks()).collect();
    let logged = plans.clone();
    let log = move || logged.iter().for_each(|plan| log::forced(plan, by));
    let steps = describe_steps(open, log);

    let mut text = format!("lifecycle: the end is forced by {by}\n");
    steps.iter().for_each(|step| text.push_str(&line(step)));
    for runner in &runners {
        runner.describe(&mut text);
    }
    print(&text);

    // The hooks run before the engine is told to abort, since the process may end by itself after that. Hooks that take
    // longer continue while the engine aborts.
    let _ = run(hooks).recv_timeout(HOOK_TIME);
    for plan in &plans {
        plan.shared.force(by);
    }
    let until = Instant::now() + ABORT_TIME;
    let is_open = || plans.iter().any(|plan| plan.report().is_none());
    while Instant::now() < until && is_open() {
        thread::sleep(Duration::from_millis(5));
    }
    if is_open() {
        print("  the executor did not abort the running steps within 1 s\n");
    } else if running {
        // The runners have their reports, so the process may end by itself during this sleep.
        thread::sleep(until.saturating_duration_since(Instant::now()));
    }
    process::exit(i32::from(by.exit_code()));
}

/// Calls the log, and asks each step what it is waiting for. Both calls run foreign code that may block, so they run on
/// a thread that nothing waits for.
fn describe_steps(
    open: Vec<UnfinishedStep>,
    log: impl FnOnce() + Send + 'static,
) -> Vec<StepProgress> {
    let mut steps: Vec<StepProgress> = open.iter().map(|step| step.view.clone()).collect();
    let (sender, answers) = mpsc::channel();
    // The result is ignored: if no thread can be started, the text has no descriptions.
    let _ = thread::Builder::new()
        .name("lifecycle-ask".into())
        .spawn(move || {
            for (i, step) in open.into_iter().enumerate() {
                // Sending fails if the function no longer waits for descriptions; there is nothing to do then.
                let _ = sender.send((i, step.described()));
            }
            drop(sender);
            // The log's subscriber is foreign code as well.
            let _ = contain(log);
        });
    let until = Instant::now() + ANSWER_TIME;
    while let Ok((i, step)) = answers.recv_timeout(until.saturating_duration_since(Instant::now()))
    {
        steps[i] = step;
    }
    steps
}

/// Runs the hooks on several threads, so that a hook that hangs does not keep other hooks from running. These threads
/// are not the thread of [`describe_steps`], which may hang in a description. The returned channel closes when all
/// hooks have ended.
fn run(hooks: Vec<ForceHook>) -> mpsc::Receiver<()> {
    let (sender, done) = mpsc::channel();
    let threads = hooks.len().min(MAX_THREADS);
    let hooks = Arc::new(Mutex::new(hooks.into_iter()));
    for _ in 0..threads {
        let (hooks, sender) = (Arc::clone(&hooks), sender.clone());
        // The result is ignored: if no thread can be started, no hook runs, and the channel closes at once.
        let _ = thread::Builder::new()
            .name("lifecycle-force".into())
            .spawn(move || {
                while let Some(hook) = next(&hooks) {
                    if let Err(message) = contain(hook) {
                        log::on_force_panicked(&message);
                    }
                }
                drop(sender);
            });
    }
    done
}

fn next(hooks: &Mutex<vec::IntoIter<ForceHook>>) -> Option<ForceHook> {
    hooks.lock().unwrap_or_else(PoisonError::into_inner).next()
}

impl ForcedRunner {
    /// Describes what delays the end of the process, apart from unfinished steps.
    fn describe(&self, text: &mut String) {
        let report = self.plan.as_ref().and_then(|plan| plan.report());
        if let (Some(plan), None) = (&self.plan, report) {
            if !plan.is_laid_out() {
                let plan = plan.component;
                text.push_str(&format!("  not done: the plan of {plan} had not begun\n"));
            }
            return;
        }
        for step in report.iter().flat_map(|report| report.steps()) {
            describe_left(step, &format_args!("{}", step.name()), text);
        }
        let holds = match self.phase {
            Phase::Start => "the plan had not begun: the start blocks the executor".into(),
            Phase::Main => "the plan had not begun: main blocks the executor".into(),
            Phase::LameDuck => {
                "the plan had not begun: main or a deregistration hook blocks the executor".into()
            }
            Phase::Drop(server) => format!("dropping `{server}` blocks the executor"),
            Phase::Finally => "the `finally` hooks had not ended".into(),
            Phase::Plan | Phase::Ended => {
                "every step has ended: something else holds the process".into()
            }
            Phase::RuntimeEnds => format!("every step has ended: {RUNTIME_WAITS}"),
        };
        text.push_str(&format!("  {holds}\n"));
    }
}

/// The text about the reason why a runtime does not end, as far as the reason is visible from outside.
const RUNTIME_WAITS: &str = "the runtime waits for a call on its blocking pool \
    (a read of stdin, or a `spawn_blocking` that does not return)";

/// Adds a line to `text` for each step that timed out. The work that such a step was waiting for may still be running.
fn describe_left(step: &Step, path: &dyn fmt::Display, text: &mut String) {
    if let Outcome::TimedOut {
        waiting_for: Some(what),
    } = step.outcome()
    {
        text.push_str(&format!("  left behind by {path}: {what}\n"));
    }
    for inside in step.steps() {
        let dot = if inside.is_element() { "" } else { "." };
        describe_left(inside, &format_args!("{path}{dot}{}", inside.name()), text);
    }
}

/// Exits a process whose runtime waits for its blocking pool. Prints an unclean report first, as main would have done
/// by returning the report.
pub(super) fn end_runtime(waited: Duration, report: Report) -> ! {
    if !report.is_clean() {
        print(&format!("{report}\n"));
    }
    print(&format!(
        "lifecycle: the process ends, since for {} {RUNTIME_WAITS}\n",
        Time(waited)
    ));
    process::exit(i32::from(report.exit_code()));
}

fn print(text: &str) {
    // The result is ignored: if stderr is closed, the text has nowhere to go.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn line(step: &StepProgress) -> String {
    let state = match (step.is_polled(), step.is_running()) {
        (true, _) => "was running and blocks the executor",
        (false, true) => "was running",
        (false, false) => "had not begun",
    };
    match step.waiting_for() {
        Some(what) => format!("  not done: {} {state}, waiting for {what}\n", step.path()),
        None => format!("  not done: {} {state}\n", step.path()),
    }
}

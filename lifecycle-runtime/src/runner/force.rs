//! The forced end: the process is over, whatever the rest of it does.

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

/// How long the engine has to abort what runs, once the end is forced.
const ABORTS: Duration = Duration::from_secs(1);

/// How long the components have to say what they wait for, before that.
const ANSWERS: Duration = Duration::from_millis(250);

/// How long their hooks have, before the engine is told; later they go on beside the aborts.
const HOOKS: Duration = Duration::from_secs(1);

/// Threads that run them: so many may hang, and the others are still run.
const THREADS: usize = 8;

/// What is forced to end.
pub(super) struct Forced {
    pub(super) runners: Vec<ForcedRunner>,
    /// A runner has not ended.
    pub(super) running: bool,
}

/// A runner that is forced to end, and what it is doing.
pub(super) struct ForcedRunner {
    pub(super) plan: Option<Arc<RunningPlan>>,
    pub(super) phase: Phase,
}

/// Ends the process, within [`ANSWERS`], [`HOOKS`] and [`ABORTS`].
pub(super) fn force(by: Force, what: Forced) -> ! {
    let Forced { runners, running } = what;
    let plans = runners.iter().filter_map(|runner| runner.plan.clone());
    let plans: Vec<_> = plans.collect();
    // Before the engine is told: it lets go of both as it ends the steps.
    let open = plans
        .iter()
        .flat_map(|plan| plan.unfinished_steps(clock::now()))
        .collect();
    let hooks = plans.iter().flat_map(|plan| plan.take_hooks()).collect();
    let told = plans.clone();
    let log = move || told.iter().for_each(|plan| log::forced(plan, by));
    let steps = ask(open, log);

    let mut text = format!("lifecycle: the end is forced by {by}\n");
    steps.iter().for_each(|step| text.push_str(&line(step)));
    for runner in &runners {
        runner.describe(&mut text);
    }
    tell(&text);

    // All hooks have run, or go on beside the aborts. First they, since the process may well end by itself
    // once the engine is told.
    let _ = run(hooks).recv_timeout(HOOKS);
    for plan in &plans {
        plan.shared.force(by);
    }
    let until = Instant::now() + ABORTS;
    let is_open = || plans.iter().any(|plan| plan.report().is_none());
    while Instant::now() < until && is_open() {
        thread::sleep(Duration::from_millis(5));
    }
    if is_open() {
        tell("  the executor did not get to abort what was running within 1 s\n");
    } else if running {
        // The runner has its report; the process may well end by itself.
        thread::sleep(until.saturating_duration_since(Instant::now()));
    }
    process::exit(i32::from(by.exit_code()));
}

/// Asks every step what it waits for, and logs: a component's code and a subscriber's, which may block, so it runs
/// on a thread that is left behind.
fn ask(open: Vec<UnfinishedStep>, log: impl FnOnce() + Send + 'static) -> Vec<StepProgress> {
    let mut steps: Vec<StepProgress> = open.iter().map(|step| step.view.clone()).collect();
    let (says, said) = mpsc::channel();
    // Without a thread the process still ends, and says less.
    let _ = thread::Builder::new()
        .name("lifecycle-ask".into())
        .spawn(move || {
            for (i, step) in open.into_iter().enumerate() {
                // The guard may have stopped listening.
                let _ = says.send((i, step.described()));
            }
            drop(says);
            // A subscriber is somebody's code too.
            let _ = contain(log);
        });
    let until = Instant::now() + ANSWERS;
    while let Ok((i, step)) = said.recv_timeout(until.saturating_duration_since(Instant::now())) {
        steps[i] = step;
    }
    steps
}

/// Runs the hooks, on other threads than [`ask`], which may hang in what a component says. There are several, so that a
/// hook that hangs keeps no other from running. Told when all have run.
fn run(hooks: Vec<ForceHook>) -> mpsc::Receiver<()> {
    let (runs, ran) = mpsc::channel();
    let threads = hooks.len().min(THREADS);
    let hooks = Arc::new(Mutex::new(hooks.into_iter()));
    for _ in 0..threads {
        let (hooks, runs) = (Arc::clone(&hooks), runs.clone());
        // Without any thread none is run, and the engine is told at once.
        let _ = thread::Builder::new()
            .name("lifecycle-force".into())
            .spawn(move || {
                while let Some(hook) = next(&hooks) {
                    if let Err(message) = contain(hook) {
                        log::on_force_panicked(&message);
                    }
                }
                drop(runs);
            });
    }
    ran
}

fn next(hooks: &Mutex<vec::IntoIter<ForceHook>>) -> Option<ForceHook> {
    hooks.lock().unwrap_or_else(PoisonError::into_inner).next()
}

impl ForcedRunner {
    /// Adds what holds the process, beside steps that have not ended.
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
            Phase::Start => "the plan had not begun: the start holds the executor".into(),
            Phase::Main => "the plan had not begun: main holds the executor".into(),
            Phase::LameDuck => {
                "the plan had not begun: main or a deregistration hook holds the executor".into()
            }
            Phase::Drop(server) => format!("dropping `{server}` holds the executor"),
            Phase::Finally => "the `finally` hooks had not ended".into(),
            Phase::Plan | Phase::Ended => {
                "every step has ended: something else holds the process".into()
            }
            Phase::RuntimeEnds => format!("every step has ended: {RUNTIME_WAITS}"),
        };
        text.push_str(&format!("  {holds}\n"));
    }
}

/// What holds a runtime that is being dropped, as far as anything outside it can tell.
const RUNTIME_WAITS: &str = "the runtime waits for a call on its blocking pool \
    (a read of stdin, or a `spawn_blocking` that does not return)";

/// Adds a line for each step that met its deadline, since what it was waiting for may go on.
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

/// Ends a process whose runtime waits for its blocking pool. What the report's end would have said, is said here.
pub(super) fn end_runtime(waited: Duration, report: Report) -> ! {
    if !report.is_clean() {
        tell(&format!("{report}\n"));
    }
    tell(&format!(
        "lifecycle: the process ends, since for {} {RUNTIME_WAITS}\n",
        Time(waited)
    ));
    process::exit(i32::from(report.exit_code()));
}

fn tell(text: &str) {
    // Nobody is left to tell if stderr is gone.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn line(step: &StepProgress) -> String {
    let state = match (step.is_polled(), step.is_running()) {
        (true, _) => "was running and holds the executor",
        (false, true) => "was running",
        (false, false) => "had not begun",
    };
    match step.waiting_for() {
        Some(what) => format!("  not done: {} {state}, waiting for {what}\n", step.path()),
        None => format!("  not done: {} {state}\n", step.path()),
    }
}

//! The forced end: the process is over, whatever the rest of it does.

use std::io::Write as _;
use std::process;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use std::vec;

use crate::engine::{ForceHook, RunningPlan, UnfinishedStep, contain};
use crate::{Force, StepProgress, clock, log};

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
    pub(super) plans: Vec<Arc<RunningPlan>>,
    /// Who ran, of runners that have not begun their plan.
    pub(super) early: Vec<&'static str>,
    /// A runner has not ended.
    pub(super) running: bool,
}

/// Ends the process, within [`ANSWERS`], [`HOOKS`] and [`ABORTS`].
pub(super) fn force(by: Force, what: Forced) -> ! {
    let Forced {
        plans,
        early,
        running,
    } = what;
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
    for ahead in &early {
        text.push_str(&format!(
            "  the plan had not begun: {ahead} holds the executor\n"
        ));
    }
    for plan in &plans {
        if plan.report().is_none() && !plan.is_laid_out() {
            let plan = plan.component;
            text.push_str(&format!("  not done: the plan of {plan} had not begun\n"));
        }
    }
    if early.is_empty() && plans.iter().all(|plan| plan.report().is_some()) {
        text.push_str("  every step has ended: something else holds the process\n");
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

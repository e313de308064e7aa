//! An armed runner, as the guard's thread sees it.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::super::options::SecondSignal;
use super::{Command, lock, send};
use crate::context::after;
use crate::engine::{RunningPlan, UnfinishedStep};
use crate::{Reason, ShutdownHandle, Signal, clock};

/// Signals within this time count as one request, since terminals and process managers send them twice.
const DUPLICATE_SIGNAL_WINDOW: Duration = Duration::from_millis(500);

/// How long the executor may leave a plan unpolled before that is logged.
const BLOCKED_AFTER: Duration = Duration::from_secs(3);

/// An armed runner, as the guard's thread sees it.
pub(super) struct ArmedRunner {
    pub(super) handle: ShutdownHandle,
    /// The signals that are passed to hooks and request nothing.
    pub(super) hooks: Vec<Signal>,
    pub(super) hooked: mpsc::UnboundedSender<Signal>,
    pub(super) second: SecondSignal,
    pub(super) status: Mutex<Status>,
}

/// The status of a runner. All times are real, as signals and blocked executors are.
#[derive(Default)]
pub(super) struct Status {
    /// The activity of the runner.
    pub(super) phase: Phase,
    /// When the last signal came that had an effect.
    last_signal: Option<Instant>,
    /// Whether a signal has hurried the shutdown.
    hurried: bool,
    /// When the shutdown was requested.
    requested: Option<Instant>,
    /// How long after the request the process must be gone.
    pub(super) allowed: Option<Duration>,
    /// Whether the log has reported that the executor is blocked.
    blocked_logged: bool,
}

/// The activity of a runner.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::runner) enum Phase {
    /// Building the server.
    #[default]
    Start,
    /// Serving.
    Main,
    /// Serving, while it deregisters.
    LameDuck,
    /// Running the plan, which begins with main's end.
    Plan,
    /// Dropping the server of this type.
    Drop(&'static str),
    /// Waiting for its `finally` hooks.
    Finally,
    /// Finished: the runner has returned.
    Ended,
    /// Finished: the runtime is being dropped.
    RuntimeEnds,
}

impl Status {
    /// Returns when the process must be gone.
    pub(super) fn exit_deadline(&self) -> Option<Instant> {
        Some(after(self.requested?, self.allowed?))
    }
}

impl ArmedRunner {
    /// Carries out a signal. Returns `true` if the end must be forced.
    pub(super) fn on_signal(&self, signal: Signal, now: Instant) -> bool {
        if self.hooks.contains(&signal) {
            // Fails if the runner has ended meanwhile.
            let _ = self.hooked.send(signal);
            return false;
        }
        let mut status = lock(&self.status);
        let Some(last) = status.last_signal.replace(now) else {
            drop(status);
            self.handle.request(Reason::Signal(signal));
            return false;
        };
        if now.saturating_duration_since(last) < DUPLICATE_SIGNAL_WINDOW {
            status.last_signal = Some(last);
            return false;
        }
        if status.hurried {
            return true;
        }
        match self.second {
            SecondSignal::Hurry => {
                status.hurried = true;
                drop(status);
                self.hurry();
                false
            }
            SecondSignal::Force => {
                drop(status);
                !self.handle.end_early_phase()
            }
        }
    }

    /// Hurries the shutdown, and tells the user of a terminal.
    fn hurry(&self) {
        // Read before the hurry, since the steps that it cuts end.
        let plan = self.handle.running();
        let unfinished = plan.map(|plan| plan.unfinished_steps(clock::now()));
        self.handle.hurry();
        // On a thread that nothing waits for: a stopped terminal blocks its writer, which must not be the guard.
        let _ = thread::Builder::new()
            .name("lifecycle-hurry".into())
            .spawn(move || print_hurried(&unfinished.unwrap_or_default()));
    }

    /// Records the first request of a shutdown, from which the watchdog counts.
    pub(super) fn record_request(&self, now: Instant) {
        let mut status = lock(&self.status);
        status.requested.get_or_insert(now);
        let watched = status.allowed.is_some();
        drop(status);
        if watched {
            send(Command::Check);
        }
    }

    /// Returns whether a signal after the runner's end forces the end of the process. Hooked signals do not.
    pub(super) fn forces_after_end(&self, signal: Signal, now: Instant) -> bool {
        if self.hooks.contains(&signal) {
            return false;
        }
        let last = lock(&self.status).last_signal;
        last.is_none_or(|last| now.saturating_duration_since(last) >= DUPLICATE_SIGNAL_WINDOW)
    }

    /// Returns the plan that the executor leaves unpolled, and for how long. Returns each such time only once.
    pub(super) fn newly_blocked(&self, now: Instant) -> Option<(Arc<RunningPlan>, Duration)> {
        let plan = self.handle.running()?;
        let since = plan.shared.since_heartbeat(now);
        let mut status = lock(&self.status);
        let blocked =
            status.exit_deadline().is_some() && plan.report().is_none() && since > BLOCKED_AFTER;
        let logged = std::mem::replace(&mut status.blocked_logged, blocked);
        (blocked && !logged).then_some((plan, since))
    }
}

/// Prints to a terminal what a hurry cuts, and what another signal would do.
fn print_hurried(unfinished: &[UnfinishedStep]) {
    let mut stderr = io::stderr();
    if !stderr.is_terminal() {
        return;
    }
    let running = unfinished.iter().filter(|step| step.is_cut_by_a_hurry());
    let cut: Vec<_> = running.map(|step| step.view.path()).collect();
    let text = match cut.is_empty() {
        true => "lifecycle: hurrying".to_owned(),
        false => format!("lifecycle: hurrying, {} cut", cut.join(", ")),
    };
    // If stderr is gone, the text has nowhere to go.
    let _ = writeln!(
        stderr,
        "{text}; the rest of the shutdown runs, another signal forces the end"
    );
}

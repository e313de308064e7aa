//! One runner, as the guard's thread knows it.

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

/// Terminals and process managers send a signal twice; that is one request.
const DUPLICATE_SIGNAL_WINDOW: Duration = Duration::from_millis(500);

/// How long the executor may keep from a plan before that is said.
const BLOCKED: Duration = Duration::from_secs(3);

/// One runner, as the guard's thread knows it.
pub(super) struct ArmedRunner {
    pub(super) handle: ShutdownHandle,
    /// Signals that are passed on instead of ending anything.
    pub(super) hooks: Vec<Signal>,
    pub(super) hooked: mpsc::UnboundedSender<Signal>,
    pub(super) second: SecondSignal,
    pub(super) status: Mutex<Status>,
}

/// All times are real, since signals and executors that block are.
#[derive(Default)]
pub(super) struct Status {
    /// What the runner is doing.
    pub(super) phase: Phase,
    /// When the last signal came that did something.
    last_signal: Option<Instant>,
    /// A signal has hurried it.
    hurried: bool,
    /// When the shutdown was asked for.
    requested: Option<Instant>,
    /// How long after the request the process has to be gone.
    pub(super) allowed: Option<Duration>,
    /// It was said that the executor is blocked.
    said_blocked: bool,
}

/// What a runner is doing.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::runner) enum Phase {
    /// Building the server.
    #[default]
    Start,
    /// Serving.
    Main,
    /// Serving, while it deregisters.
    LameDuck,
    /// Running the plan, main's end before it.
    Plan,
    /// Dropping the server of this type.
    Drop(&'static str),
    /// Waiting for its `finally` hooks.
    Finally,
    /// Nothing: it has returned.
    Ended,
    /// Nothing: its runtime is being dropped.
    RuntimeEnds,
}

impl Status {
    /// When the process has to be gone.
    pub(super) fn gone_by(&self) -> Option<Instant> {
        Some(after(self.requested?, self.allowed?))
    }
}

impl ArmedRunner {
    /// Asks for the shutdown; `true` if it was asked for before, so that the end has to be forced.
    pub(super) fn tell(&self, signal: Signal, now: Instant) -> bool {
        if self.hooks.contains(&signal) {
            // The runner may have ended meanwhile.
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

    /// Cuts what may be cut, and says so at a terminal.
    fn hurry(&self) {
        // Looked at before anything is cut: what is cut ends.
        let plan = self.handle.running();
        let unfinished = plan.map(|plan| plan.unfinished_steps(clock::now()));
        self.handle.hurry();
        // On a thread that is left behind: a terminal may be stopped, and the guard must not be.
        let _ = thread::Builder::new()
            .name("lifecycle-hurry".into())
            .spawn(move || say_hurried(&unfinished.unwrap_or_default()));
    }

    /// Notes that the shutdown was asked for, from which on the process has to be gone in time. The first call counts.
    pub(super) fn asked(&self, now: Instant) {
        let mut status = lock(&self.status);
        status.requested.get_or_insert(now);
        let watched = status.allowed.is_some();
        drop(status);
        if watched {
            send(Command::Look);
        }
    }

    /// The runner has ended, so nobody else will act on it. What it hooked is still no reason to end.
    pub(super) fn tells_again(&self, signal: Signal, now: Instant) -> bool {
        if self.hooks.contains(&signal) {
            return false;
        }
        let last = lock(&self.status).last_signal;
        last.is_none_or(|last| now.saturating_duration_since(last) >= DUPLICATE_SIGNAL_WINDOW)
    }

    /// The plan that the executor does not get to, and for how long, if that is to be said: once.
    pub(super) fn look(&self, now: Instant) -> Option<(Arc<RunningPlan>, Duration)> {
        let live = self.handle.running()?;
        let since = live.shared.since_heartbeat(now);
        let mut status = lock(&self.status);
        let blocked = status.gone_by().is_some() && live.report().is_none() && since > BLOCKED;
        let said = std::mem::replace(&mut status.said_blocked, blocked);
        (blocked && !said).then_some((live, since))
    }
}

/// Says at a terminal what a hurry cuts, and what another signal would do.
fn say_hurried(unfinished: &[UnfinishedStep]) {
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
    // Nobody is left to tell if stderr is gone.
    let _ = writeln!(
        stderr,
        "{text}; the rest of the shutdown runs, another signal forces the end"
    );
}

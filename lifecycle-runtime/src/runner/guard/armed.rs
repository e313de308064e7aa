//! The state of an armed runner that the guard's thread reads and writes.

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

/// The time within which several signals count as one request, since terminals and process managers send them twice.
const DUPLICATE_SIGNAL_WINDOW: Duration = Duration::from_millis(500);

/// The time for which the executor may leave a plan unpolled before the log reports that.
const BLOCKED_AFTER: Duration = Duration::from_secs(3);

/// The state of an armed runner that the guard's thread reads and writes.
pub(super) struct ArmedRunner {
    pub(super) handle: ShutdownHandle,
    /// The signals that have a hook. They do not request a shutdown.
    pub(super) hooks: Vec<Signal>,
    pub(super) hooked: mpsc::UnboundedSender<Signal>,
    pub(super) second: SecondSignal,
    pub(super) status: Mutex<Status>,
}

/// The status of a runner. All its times are real time, as signals and blocked executors do not follow a paused clock.
#[derive(Default)]
pub(super) struct Status {
    /// The present activity of the runner.
    pub(super) phase: Phase,
    /// The time of the last signal that had an effect.
    last_signal: Option<Instant>,
    /// Whether a signal has hurried the shutdown.
    hurried: bool,
    /// The time when the shutdown was requested. `None` before the request.
    requested: Option<Instant>,
    /// How long after the request the process must be gone. `None` without a watchdog.
    pub(super) allowed: Option<Duration>,
    /// Whether the log has reported that the executor is blocked.
    blocked_logged: bool,
}

/// The activity of a runner.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::runner) enum Phase {
    /// The runner is building the server.
    #[default]
    Start,
    /// The runner is serving.
    Main,
    /// The runner is serving, and the lame duck runs.
    LameDuck,
    /// The runner is waiting for main's end, or running the plan.
    Plan,
    /// The runner is dropping the server, whose type is called this.
    Drop(&'static str),
    /// The runner is waiting for its `finally` hooks.
    Finally,
    /// The runner has returned its report.
    Ended,
    /// The runner has returned its report, and its runtime is being dropped.
    RuntimeEnds,
}

impl Status {
    /// Returns the time at which the process must be gone. `None` if there is no request or no watchdog.
    pub(super) fn exit_deadline(&self) -> Option<Instant> {
        Some(after(self.requested?, self.allowed?))
    }
}

impl ArmedRunner {
    /// Does what a signal means for this runner. Returns `true` if the end must be forced.
    pub(super) fn on_signal(&self, signal: Signal, now: Instant) -> bool {
        if self.hooks.contains(&signal) {
            // Sending fails if the runner has ended meanwhile; there is nothing to do then.
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

    /// Hurries the shutdown, and prints to a terminal which steps that cuts.
    fn hurry(&self) {
        // The unfinished steps are read before the hurry, since the hurry ends some of them.
        let plan = self.handle.running();
        let unfinished = plan.map(|plan| plan.unfinished_steps(clock::now()));
        self.handle.hurry();
        // The text is printed on a thread that nothing waits for: a stopped terminal blocks the thread that writes to
        // it, and that must not be the guard's thread.
        let _ = thread::Builder::new()
            .name("lifecycle-hurry".into())
            .spawn(move || print_hurried(&unfinished.unwrap_or_default()));
    }

    /// Records the time of the first request of a shutdown. The watchdog measures from that time.
    pub(super) fn record_request(&self, now: Instant) {
        let mut status = lock(&self.status);
        status.requested.get_or_insert(now);
        let watched = status.allowed.is_some();
        drop(status);
        if watched {
            send(Command::Check);
        }
    }

    /// Returns whether a signal after the runner's end forces the end of the process. Signals with a hook do not.
    pub(super) fn forces_after_end(&self, signal: Signal, now: Instant) -> bool {
        if self.hooks.contains(&signal) {
            return false;
        }
        let last = lock(&self.status).last_signal;
        last.is_none_or(|last| now.saturating_duration_since(last) >= DUPLICATE_SIGNAL_WINDOW)
    }

    /// Returns the plan that the executor no longer polls, and for how long. Returns a plan only once each time that
    /// the executor is blocked.
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

/// Prints to a terminal the steps that the hurry cuts, and the effect of another signal.
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
    // The result is ignored: if stderr is closed, the text has nowhere to go.
    let _ = writeln!(
        stderr,
        "{text}; the rest of the shutdown runs, another signal forces the end"
    );
}

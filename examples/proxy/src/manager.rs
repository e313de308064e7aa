//! What the service manager is told (sd_notify(3)): ready, stopping, how far, and
//! that the executor still runs.

use std::env;
use std::fmt;
use std::time::Duration;

use lifecycle_runtime::{
    BoxError, Component, ConnectionStats, Context, Progress, Readiness, ReadyState, ShutdownHandle,
};
use sd_notify::NotifyState;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::logging::Throttle;

/// Each time it is asked for, the manager waits so long for the next word.
const EXTENSION: Duration = Duration::from_secs(5);

/// So often it is, and the numbers are told, while nothing else happens.
const BEAT: Duration = Duration::from_secs(1);

/// A service manager that wants to be told, and how often it wants a sign of life.
#[derive(Clone, Copy, Debug)]
pub struct Notifier {
    watchdog: Option<Duration>,
}

impl Notifier {
    /// The one that the environment names (`NOTIFY_SOCKET`, `WATCHDOG_USEC`).
    #[must_use]
    pub fn from_env() -> Option<Self> {
        env::var_os("NOTIFY_SOCKET")?;
        Some(Self {
            watchdog: sd_notify::watchdog_enabled().filter(|interval| !interval.is_zero()),
        })
    }
}

/// What there is to tell.
pub struct View {
    /// When the shutdown begins, and how far it is.
    pub handle: ShutdownHandle,
    /// When it is ready.
    pub readiness: Readiness,
    /// How many there are.
    pub connections: Box<dyn Fn() -> ConnectionStats + Send + Sync>,
    /// Cancelled: another process is the service now, so this one says nothing.
    pub left: CancellationToken,
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").finish_non_exhaustive()
    }
}

/// Tells the service manager, until its own cleanup, which is the last.
#[derive(Debug)]
pub struct Manager {
    teller: JoinHandle<()>,
}

impl Manager {
    /// Begins to tell.
    #[must_use]
    pub fn start(notifier: Notifier, view: View) -> Self {
        let teller = Teller {
            view,
            complaints: Throttle::default(),
        };
        Self {
            teller: tokio::spawn(teller.run(notifier.watchdog)),
        }
    }

    /// The service is that process now.
    pub fn pass_on(&self, pid: u32) {
        notify(&[NotifyState::MainPid(pid)], &Throttle::default());
    }
}

impl Component for Manager {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        self.teller.cleanup(cx).await
    }

    fn abort(&mut self) {
        self.teller.abort();
    }

    fn release(&mut self) {
        self.teller.abort();
    }
}

struct Teller {
    view: View,
    complaints: Throttle,
}

impl Teller {
    async fn run(self, watchdog: Option<Duration>) {
        let told = async { tokio::join!(self.story(), self.signs_of_life(watchdog)) };
        // Under another main process, what this one says of its end would be taken for
        // the end of the service.
        self.view.left.run_until_cancelled(told).await;
    }

    /// From a task like any other, so that they cease when tasks are not run.
    async fn signs_of_life(&self, watchdog: Option<Duration>) {
        let Some(watchdog) = watchdog else { return };
        let mut ticks = interval(watchdog / 2);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.tell(&[NotifyState::Watchdog]);
        }
    }

    async fn story(&self) {
        let mut readiness = self.view.readiness.watch();
        // The sender is in the view.
        let _ = readiness
            .wait_for(|state| *state != ReadyState::Starting)
            .await;
        if self.view.readiness.is_ready() {
            self.tell(&[NotifyState::Ready, NotifyState::Status("serving")]);
        }
        self.view.handle.requested().await;
        self.tell(&[NotifyState::Stopping]);
        let mut progress = self.view.handle.progress();
        let mut goes_on = true;
        let micros = u32::try_from(EXTENSION.as_micros()).unwrap_or(u32::MAX);
        loop {
            self.tell(&[
                NotifyState::ExtendTimeoutUsec(micros),
                NotifyState::Status(&self.status(&progress)),
            ]);
            // What comes after the plan's end is this component's own.
            if let Ok(more) = timeout(BEAT, next(&mut progress, goes_on)).await {
                goes_on = more;
            }
        }
    }

    /// `draining: 3 connections, in step connections`
    fn status(&self, progress: &Progress) -> String {
        let connections = (self.view.connections)().active;
        let s = if connections == 1 { "" } else { "s" };
        let running = progress.unfinished();
        let running = running.iter().filter(|step| step.is_running());
        let steps: Vec<_> = running.map(lifecycle_runtime::StepProgress::path).collect();
        if steps.is_empty() {
            return format!("stopping: {connections} connection{s}");
        }
        let steps = steps.join(", ");
        format!("draining: {connections} connection{s}, in step {steps}")
    }

    fn tell(&self, what: &[NotifyState<'_>]) {
        notify(what, &self.complaints);
    }
}

async fn next(progress: &mut Progress, goes_on: bool) -> bool {
    match goes_on {
        true => progress.changed().await,
        false => std::future::pending().await,
    }
}

fn notify(what: &[NotifyState<'_>], complaints: &Throttle) {
    if let Err(error) = sd_notify::notify(what)
        && complaints.allows()
    {
        warn!(%error, "the service manager could not be told");
    }
}

//! What the service manager is told (sd_notify(3)): ready, stopping, how far, and
//! that the executor still runs.

use std::env;
use std::fmt::{self, Write as _};
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{self, SocketAddr};
use std::time::Duration;

use lifecycle_runtime::{
    BoxError, Component, ConnectionStats, Context, Progress, Readiness, ReadyState, ShutdownHandle,
};
use sd_notify::NotifyState;
use tokio::net::UnixDatagram;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use crate::telemetry::logging::Throttle;

/// Each time it is asked for, the manager waits so long for the next word.
const EXTENSION: Duration = Duration::from_secs(5);

/// So often it is, and the numbers are told, while nothing else happens.
const BEAT: Duration = Duration::from_secs(1);

/// How long a restart waits until the manager has been told of it.
const PATIENCE: Duration = Duration::from_secs(1);

/// A service manager that wants to be told, and how often it wants a sign of life.
#[derive(Clone, Debug)]
pub struct Notifier {
    address: SocketAddr,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// The one that the environment names (`NOTIFY_SOCKET`, `WATCHDOG_USEC`).
    #[must_use]
    pub fn from_env() -> Option<Self> {
        let name = env::var_os("NOTIFY_SOCKET")?;
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
            _ => SocketAddr::from_pathname(&name),
        };
        let address = address
            .inspect_err(|error| warn!(?name, %error, "the service manager cannot be told"))
            .ok()?;
        Some(Self {
            address,
            watchdog: sd_notify::watchdog_enabled().filter(|interval| !interval.is_zero()),
        })
    }

    /// Waits as long as the manager has no time to listen; `sd_notify::notify` would
    /// do that too, but hold a thread of the executor.
    async fn tell(&self, what: &[NotifyState<'_>]) -> io::Result<()> {
        let mut text = String::new();
        for state in what {
            let _ = writeln!(text, "{state}");
        }
        // A new one each time, as the manager may be another one by now.
        let socket = net::UnixDatagram::unbound()?;
        socket.connect_addr(&self.address)?;
        socket.set_nonblocking(true)?;
        let socket = UnixDatagram::from_std(socket)?;
        socket.send(text.as_bytes()).await.map(drop)
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
    notifier: Notifier,
    teller: AbortOnDropHandle<()>,
}

impl Manager {
    /// Begins to tell.
    #[must_use]
    pub fn start(notifier: Notifier, view: View) -> Self {
        let teller = Teller {
            notifier: notifier.clone(),
            view,
            complaints: Throttle::default(),
        };
        Self {
            notifier,
            teller: AbortOnDropHandle::new(tokio::spawn(teller.run())),
        }
    }

    /// The service is that process now.
    pub async fn pass_on(&self, pid: u32) {
        let state = [NotifyState::MainPid(pid)];
        let told = timeout(PATIENCE, self.notifier.tell(&state)).await;
        if let Err(error) = told.unwrap_or_else(|late| Err(late.into())) {
            warn!(pid, %error, "the service manager does not know the new process");
        }
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
    notifier: Notifier,
    view: View,
    complaints: Throttle,
}

impl Teller {
    async fn run(self) {
        let told = async { tokio::join!(self.story(), self.signs_of_life()) };
        // Under another main process, what this one says of its end would be taken for
        // the end of the service.
        self.view.left.run_until_cancelled(told).await;
    }

    /// From a task like any other, so that they cease when tasks are not run.
    async fn signs_of_life(&self) {
        let Some(watchdog) = self.notifier.watchdog else {
            return;
        };
        let mut ticks = interval(watchdog / 2);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.tell(&[NotifyState::Watchdog]).await;
        }
    }

    async fn story(&self) {
        let mut readiness = self.view.readiness.watch();
        // The sender is in the view.
        let _ = readiness
            .wait_for(|state| *state != ReadyState::Starting)
            .await;
        if self.view.readiness.is_ready() {
            self.tell(&[NotifyState::Ready, NotifyState::Status("serving")])
                .await;
        }
        self.view.handle.requested().await;
        self.tell(&[NotifyState::Stopping]).await;
        let mut progress = self.view.handle.progress();
        let mut goes_on = true;
        let micros = u32::try_from(EXTENSION.as_micros()).unwrap_or(u32::MAX);
        loop {
            self.tell(&[
                NotifyState::ExtendTimeoutUsec(micros),
                NotifyState::Status(&self.status(&progress)),
            ])
            .await;
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

    async fn tell(&self, what: &[NotifyState<'_>]) {
        if let Err(error) = self.notifier.tell(what).await
            && self.complaints.allows()
        {
            warn!(%error, "the service manager could not be told");
        }
    }
}

async fn next(progress: &mut Progress, goes_on: bool) -> bool {
    match goes_on {
        true => progress.changed().await,
        false => std::future::pending().await,
    }
}

//! Notifications to the service manager (sd_notify(3)): ready, stopping, progress, and watchdog
//! pings.
//!
//! A [`Manager`] is the last step of a plan, so that the service manager hears of all others:
//!
//! ```
//! use std::os::linux::net::SocketAddrExt;
//! use std::os::unix::net::{SocketAddr, UnixDatagram};
//!
//! use lifecycle_proxy_systemd::{Manager, Notifier, View};
//! use lifecycle_runtime::{ConnectionStats, GracefulShutdown, Readiness, Reason};
//! use lifecycle_runtime::{ShutdownHandle, ShutdownState};
//! use tokio_util::sync::CancellationToken;
//!
//! #[derive(GracefulShutdown)]
//! struct Server {
//!     #[shutdown(priority = 0)]
//!     work: CancellationToken,
//!     #[shutdown(priority = 80, timeout = "100ms")]
//!     manager: Option<Manager>,
//!     #[shutdown(state)]
//!     state: ShutdownState,
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // A service would call `Notifier::from_env()`.
//! let name = format!("example of notifications, {}", std::process::id());
//! let address = SocketAddr::from_abstract_name(name)?;
//! let systemd = UnixDatagram::bind_addr(&address)?;
//! systemd.set_nonblocking(true)?;
//! let systemd = tokio::net::UnixDatagram::from_std(systemd)?;
//!
//! let (handle, readiness) = (ShutdownHandle::new(), Readiness::new());
//! let view = View {
//!     handle: handle.clone(),
//!     readiness: readiness.clone(),
//!     connections: Box::new(ConnectionStats::default),
//!     left: CancellationToken::new(),
//! };
//! let mut server = Server {
//!     work: CancellationToken::new(),
//!     manager: Some(Manager::start(Notifier::new(address, None), view)),
//!     state: ShutdownState::new(),
//! };
//! let mut text = [0; 100];
//! readiness.set_ready();
//! let length = systemd.recv(&mut text).await?;
//! assert_eq!(&text[..length], b"READY=1\nSTATUS=serving\n");
//! handle.request(Reason::Requested);
//! let length = systemd.recv(&mut text).await?;
//! assert_eq!(&text[..length], b"STOPPING=1\n");
//! assert!(server.shutdown().await.is_clean());
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]
#![warn(missing_docs)]

use std::env;
use std::fmt::{self, Write as _};
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{self, SocketAddr};
use std::time::Duration;

use lifecycle_proxy_common::Throttle;
use lifecycle_runtime::{
    BoxError, Component, ConnectionStats, Context, Progress, Readiness, ReadyState, ShutdownHandle,
};
use sd_notify::NotifyState;
use tokio::net::UnixDatagram;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

/// The extension that each `EXTEND_TIMEOUT_USEC=` asks the manager for.
const EXTENSION: Duration = Duration::from_secs(5);

/// The interval between two notifications while nothing changes.
const INTERVAL: Duration = Duration::from_secs(1);

/// The longest that a restart waits to notify the manager.
const PATIENCE: Duration = Duration::from_secs(1);

/// The address of a service manager, and the watchdog interval that it asks for.
#[derive(Clone, Debug)]
pub struct Notifier {
    address: SocketAddr,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// Creates a notifier of the manager at `address`, which wants a ping within each `watchdog`.
    #[must_use]
    pub const fn new(address: SocketAddr, watchdog: Option<Duration>) -> Self {
        Self { address, watchdog }
    }

    /// Reads the address from the environment (`NOTIFY_SOCKET`, `WATCHDOG_USEC`). Returns `None` if
    /// no manager listens.
    #[must_use]
    pub fn from_env() -> Option<Self> {
        let name = env::var_os("NOTIFY_SOCKET")?;
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
            _ => SocketAddr::from_pathname(&name),
        };
        let address = address
            .inspect_err(|error| warn!(?name, %error, "the service manager cannot be notified"))
            .ok()?;
        let watchdog = sd_notify::watchdog_enabled().filter(|interval| !interval.is_zero());
        Some(Self::new(address, watchdog))
    }

    /// Sends a notification. While the manager's queue is full, this waits without blocking the
    /// thread, unlike `sd_notify::notify`.
    async fn notify(&self, what: &[NotifyState<'_>]) -> io::Result<()> {
        let mut text = String::new();
        for state in what {
            let _ = writeln!(text, "{state}");
        }
        // Each notification connects anew, because the manager may have been restarted.
        let socket = net::UnixDatagram::unbound()?;
        socket.connect_addr(&self.address)?;
        socket.set_nonblocking(true)?;
        let socket = UnixDatagram::from_std(socket)?;
        socket.send(text.as_bytes()).await.map(drop)
    }
}

/// The state of the server that the notifications report.
pub struct View {
    /// The start and the progress of the shutdown.
    pub handle: ShutdownHandle,
    /// The readiness of the server.
    pub readiness: Readiness,
    /// The numbers of connections.
    pub connections: Box<dyn Fn() -> ConnectionStats + Send + Sync>,
    /// Cancelled when a new process has become the main process of the service; this one then stops
    /// notifying.
    pub left: CancellationToken,
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").finish_non_exhaustive()
    }
}

/// A task that notifies the service manager. Its cleanup ends the task and is the last step of the
/// plan.
#[derive(Debug)]
pub struct Manager {
    notifier: Notifier,
    task: AbortOnDropHandle<()>,
}

impl Manager {
    /// Starts the task.
    #[must_use]
    pub fn start(notifier: Notifier, view: View) -> Self {
        let task = NotifyTask {
            notifier: notifier.clone(),
            view,
            complaints: Throttle::default(),
        };
        Self {
            notifier,
            task: AbortOnDropHandle::new(tokio::spawn(task.run())),
        }
    }

    /// Makes the process `pid` the main process of the service.
    pub async fn hand_over(&self, pid: u32) {
        let state = [NotifyState::MainPid(pid)];
        let sent = timeout(PATIENCE, self.notifier.notify(&state)).await;
        if let Err(error) = sent.unwrap_or_else(|late| Err(late.into())) {
            warn!(pid, %error, "the service manager was not notified of the new process");
        }
    }
}

impl Component for Manager {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        self.task.cleanup(cx).await
    }

    fn abort(&mut self) {
        self.task.abort();
    }

    fn release(&mut self) {
        self.task.abort();
    }
}

struct NotifyTask {
    notifier: Notifier,
    view: View,
    complaints: Throttle,
}

impl NotifyTask {
    async fn run(self) {
        let notifying = async { tokio::join!(self.report_state(), self.ping_watchdog()) };
        // A `STOPPING=1` of this process, after the hand-over, would be taken for the end of the
        // service.
        self.view.left.run_until_cancelled(notifying).await;
    }

    /// Sends watchdog pings from an ordinary task, so that they cease when the executor is stuck.
    async fn ping_watchdog(&self) {
        let Some(watchdog) = self.notifier.watchdog else {
            return;
        };
        let mut ticks = interval(watchdog / 2);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.notify(&[NotifyState::Watchdog]).await;
        }
    }

    async fn report_state(&self) {
        let mut readiness = self.view.readiness.watch();
        // The wait cannot fail: `self.view` owns the sender.
        let _ = readiness
            .wait_for(|state| *state != ReadyState::Starting)
            .await;
        if self.view.readiness.is_ready() {
            self.notify(&[NotifyState::Ready, NotifyState::Status("serving")])
                .await;
        }
        self.view.handle.requested().await;
        self.notify(&[NotifyState::Stopping]).await;
        let mut progress = self.view.handle.progress();
        let mut goes_on = true;
        let micros = u32::try_from(EXTENSION.as_micros()).unwrap_or(u32::MAX);
        loop {
            self.notify(&[
                NotifyState::ExtendTimeoutUsec(micros),
                NotifyState::Status(&self.status(&progress)),
            ])
            .await;
            // Once the plan has ended, only this component is left, and nothing changes any more.
            if let Ok(more) = timeout(INTERVAL, next(&mut progress, goes_on)).await {
                goes_on = more;
            }
        }
    }

    /// Formats the status, such as `draining: 3 connections, in step connections`.
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

    async fn notify(&self, what: &[NotifyState<'_>]) {
        if let Err(error) = self.notifier.notify(what).await
            && self.complaints.allows()
        {
            warn!(%error, "notifying the service manager failed");
        }
    }
}

async fn next(progress: &mut Progress, goes_on: bool) -> bool {
    match goes_on {
        true => progress.changed().await,
        false => std::future::pending().await,
    }
}

//! Notifications to the service manager (sd_notify(3)): that the server is ready or stopping, the
//! progress of its shutdown, and watchdog pings.
//!
//! A [`Manager`] is the last step of a shutdown plan, so that the service manager hears of all
//! other steps:
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
//! // A service would call `Notifier::from_env()` instead.
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

/// The additional time that each `EXTEND_TIMEOUT_USEC=` requests from the service manager.
const EXTENSION: Duration = Duration::from_secs(5);

/// The interval between two progress notifications while nothing changes.
const INTERVAL: Duration = Duration::from_secs(1);

/// The longest time for which a restart waits for a notification to be sent.
const PATIENCE: Duration = Duration::from_secs(1);

/// The address of a service manager, and the interval in which it expects watchdog pings.
#[derive(Clone, Debug)]
pub struct Notifier {
    address: SocketAddr,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// Creates a notifier of the service manager at `address`. The service manager expects a ping
    /// in each interval `watchdog`.
    #[must_use]
    pub const fn new(address: SocketAddr, watchdog: Option<Duration>) -> Self {
        Self { address, watchdog }
    }

    /// Creates a notifier from the environment variables `NOTIFY_SOCKET` and `WATCHDOG_USEC`.
    /// Returns `None` if no service manager wants notifications.
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

    /// Sends a notification. If the service manager's queue is full, waits without blocking the
    /// thread. `sd_notify::notify` would block it.
    async fn notify(&self, what: &[NotifyState<'_>]) -> io::Result<()> {
        let mut text = String::new();
        for state in what {
            let _ = writeln!(text, "{state}");
        }
        // Connects anew for each notification, since the service manager may have been restarted.
        let socket = net::UnixDatagram::unbound()?;
        socket.connect_addr(&self.address)?;
        socket.set_nonblocking(true)?;
        let socket = UnixDatagram::from_std(socket)?;
        socket.send(text.as_bytes()).await.map(drop)
    }
}

/// The parts of the server whose state the notifications report.
pub struct View {
    /// The handle of the shutdown, which shows its start and its progress.
    pub handle: ShutdownHandle,
    /// The readiness of the server.
    pub readiness: Readiness,
    /// A function that returns the numbers of connections.
    pub connections: Box<dyn Fn() -> ConnectionStats + Send + Sync>,
    /// The token that is cancelled when a new process has become the main process of the service.
    /// This process then stops sending notifications.
    pub left: CancellationToken,
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").finish_non_exhaustive()
    }
}

/// A task that notifies the service manager. Its cleanup ends the task, and should be the last step
/// of the plan.
#[derive(Debug)]
pub struct Manager {
    notifier: Notifier,
    task: AbortOnDropHandle<()>,
}

impl Manager {
    /// Starts the task that sends the notifications.
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

    /// Reports to the service manager that the process `pid` is the main process of the service
    /// now.
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
        // Stops at the hand-over: the service manager would take a later `STOPPING=1` of this
        // process for the end of the service.
        self.view.left.run_until_cancelled(notifying).await;
    }

    /// Sends watchdog pings. They come from an ordinary task, so that they stop when the executor
    /// is stuck.
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
        // Ignores the result, since the wait cannot fail: `self.view` owns the sender.
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
            // Waits with a time limit, since no change comes any more once all other steps have
            // ended.
            if let Ok(more) = timeout(INTERVAL, next(&mut progress, goes_on)).await {
                goes_on = more;
            }
        }
    }

    /// Formats the status of the shutdown, such as `draining: 3 connections, in step connections`.
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

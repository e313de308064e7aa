//! Replaces the running proxy by a new process without refusing a connection or losing a request.
//!
//! 1. Until the new process reports that it is ready, this process serves as before. If the report
//!    does not come in time, this process ends the new process and goes on.
//! 2. After the report, the new process accepts connections, and this process does not. Both
//!    processes use the same sockets, so connections in the kernel's backlog are not lost.
//! 3. Each response of this process tells its client to connect again. Connections that are idle
//!    between two requests are closed only after `restart.linger`, since a client may be sending
//!    its next request at that moment.
//! 4. After that, the shutdown of this process begins.

mod link;
mod predecessor;
pub mod saved_state;
mod successor;

use std::fmt;
use std::io;
use std::process::{self, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lifecycle_proxy_discovery::Discovery;
use lifecycle_proxy_systemd::Manager;
use lifecycle_runtime::{Acceptor, Reason, ShutdownHandle, Signal};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::{self, Seconds};
use crate::inbound::sockets::Listening;
use crate::restart::saved_state::StateSaver;

pub use predecessor::{InheritError, Inheritance, Predecessor};
use successor::Successor;

/// Returns the signal with which an operator requests a restart.
#[must_use]
pub const fn signal() -> Signal {
    Signal::from_raw(rustix::process::Signal::USR2.as_raw())
}

/// The interval between two checks whether all clients have left.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A queue for requests for restarts, which holds one at a time. Clones are cheap and share the
/// same queue.
#[derive(Clone, Debug, Default)]
pub struct Requests(Arc<RequestState>);

#[derive(Debug, Default)]
struct RequestState {
    busy: AtomicBool,
    one: Notify,
}

impl Requests {
    /// Requests a restart, unless a restart has already been requested or is under way.
    pub fn request(&self) {
        // Relaxed, since this flag publishes no other memory.
        if self.0.busy.swap(true, Ordering::Relaxed) {
            warn!("restart refused: one is under way");
        } else {
            self.0.one.notify_one();
        }
    }

    async fn next(&self) {
        self.0.one.notified().await;
    }

    /// Allows the next request, when a restart has failed.
    fn finish(&self) {
        self.0.busy.store(false, Ordering::Relaxed);
    }
}

/// The reason why this process stops handling requests for restarts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The shutdown of this process was requested.
    Stopping,
    /// A new process serves. It is this restart that requested the shutdown of this process.
    HandedOver,
}

/// The reason why a new process did not take over.
#[derive(Debug)]
enum Failure {
    /// This process is process 1 of a container: the kernel would kill the new process together
    /// with it.
    Init,
    NotStarted(io::Error),
    Ended(Option<ExitStatus>),
    NotReady(Seconds),
    Stopping,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Init => {
                f.write_str("this is process 1: the kernel ends the whole container with it")
            }
            Self::NotStarted(error) => write!(f, "the new process could not be started: {error}"),
            Self::Ended(Some(status)) => {
                write!(f, "the new process ended before it was ready: {status}")
            }
            Self::Ended(None) => {
                f.write_str("the new process closed the connection before it was ready")
            }
            Self::NotReady(within) => {
                let seconds = within.duration().as_secs();
                write!(f, "the new process was not ready within {seconds} s")
            }
            Self::Stopping => f.write_str("the shutdown was requested"),
        }
    }
}

/// The parts of a server that take part in a restart.
#[derive(Debug)]
pub struct Restarts<'a> {
    /// The handle that begins the shutdown of this process once a new process serves.
    pub handle: &'a ShutdownHandle,
    /// The time limits of a restart: for the new process to become ready, and for the clients of
    /// this process to leave.
    pub config: &'a config::Restart,
    /// The sockets that the new process inherits.
    pub listening: &'a Listening,
    /// The counter of connected clients.
    pub connections: Acceptor,
    /// The saver of the state from which the new process starts.
    pub saved_state: Option<&'a StateSaver>,
    /// The service manager, which is told about the new process.
    pub manager: Option<&'a Manager>,
    /// The registrations of this server in service discovery. They stay when the new process takes
    /// over.
    pub discovery: &'a Discovery,
}

impl Restarts<'_> {
    /// Handles requests for restarts until a new process has taken over or the shutdown is
    /// requested.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future kills a new process that has not taken over yet.
    pub async fn handle_requests(&self, requests: &Requests) -> Outcome {
        let stop = self.handle.token();
        while stop.run_until_cancelled(requests.next()).await.is_some() {
            match self.replace(&stop).await {
                Ok(successor) => {
                    self.hand_over(successor, &stop).await;
                    return Outcome::HandedOver;
                }
                Err(failure) => {
                    warn!(%failure, "restart failed: this process goes on as before");
                    requests.finish();
                }
            }
        }
        Outcome::Stopping
    }

    /// Starts a new process and waits until it is ready. If it is not, ends it and returns the
    /// reason.
    async fn replace(&self, stop: &CancellationToken) -> Result<Successor, Failure> {
        if process::id() == 1 {
            return Err(Failure::Init);
        }
        if let Some(state) = self.saved_state {
            state.save().await;
        }
        let sockets = self.listening.duplicates();
        let successor = sockets.and_then(Successor::start);
        let mut successor = successor.map_err(Failure::NotStarted)?;
        info!(pid = successor.id(), "restart: a new process was started");
        let within = self.config.ready_within;
        let failure = tokio::select! {
            biased;
            () = stop.cancelled() => Failure::Stopping,
            ready = timeout(within.duration(), successor.ready()) => match ready {
                Ok(true) => return Ok(successor),
                Ok(false) => Failure::Ended(None),
                Err(_) => Failure::NotReady(within),
            },
        };
        let status = successor.dismiss().await;
        Err(match failure {
            Failure::Ended(_) => Failure::Ended(status),
            other => other,
        })
    }

    /// Leaves the sockets to the new process. Then waits for the clients of this process to leave,
    /// and requests the shutdown of this process.
    async fn hand_over(&self, successor: Successor, stop: &CancellationToken) {
        let pid = successor.release();
        if let (Some(manager), Some(pid)) = (self.manager, pid) {
            manager.hand_over(pid).await;
        }
        self.discovery.hand_over();
        self.listening.leave();
        info!(pid, "handed over: a new process serves");
        stop.run_until_cancelled(self.linger()).await;
        self.handle.request(Reason::Signal(signal()));
    }

    /// Waits until all clients of this process have left, at most for `restart.linger`.
    async fn linger(&self) {
        let until = Instant::now() + self.config.linger.duration();
        while self.connections.stats().active > 0 && Instant::now() < until {
            sleep(POLL_INTERVAL).await;
        }
    }
}

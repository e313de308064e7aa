//! A restart that nobody notices: a new process is started, which is handed the
//! listening sockets, and this one ends once that is ready.
//!
//! 1. Until the new process says that it is ready, this one serves as ever. If it
//!    does not say so, it is ended, and nothing has changed.
//! 2. From then on the new one accepts, and this one does not. The sockets are the
//!    same, so that no connection that the kernel has taken in is lost.
//! 3. Clients that are connected here are told with each response to connect
//!    again. One that is between two requests is closed only after some time, so
//!    that it does not send its next request while that happens.
//! 4. Then the shutdown begins.

mod link;
pub mod manager;
mod predecessor;
pub mod saved_state;
mod successor;

use std::fmt;
use std::io;
use std::process::{self, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lifecycle_runtime::{Acceptor, Reason, ShutdownHandle, Signal};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::{self, Seconds};
use crate::discovery::Discovery;
use crate::inbound::sockets::Listening;
use crate::restart::manager::Manager;
use crate::restart::saved_state::StateSaver;

pub use predecessor::{InheritError, Inheritance, Predecessor};
use successor::Successor;

/// The signal that asks for a restart.
#[must_use]
pub const fn signal() -> Signal {
    Signal::from_raw(rustix::process::Signal::USR2.as_raw())
}

/// How often it is looked whether the last client has gone.
const LOOK: Duration = Duration::from_millis(20);

/// Asks for restarts, one at a time. A cheap clone.
#[derive(Clone, Debug, Default)]
pub struct Requests(Arc<Asked>);

#[derive(Debug, Default)]
struct Asked {
    busy: AtomicBool,
    one: Notify,
}

impl Requests {
    /// Asks for one, unless one is under way.
    pub fn ask(&self) {
        // Relaxed: nothing is published through it.
        if self.0.busy.swap(true, Ordering::Relaxed) {
            warn!("restart refused: one is under way");
        } else {
            self.0.one.notify_one();
        }
    }

    async fn asked(&self) {
        self.0.one.notified().await;
    }

    /// Another one may be asked for.
    fn settle(&self) {
        self.0.busy.store(false, Ordering::Relaxed);
    }
}

/// Why restarts are no longer attended to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The shutdown was asked for.
    Stopping,
    /// A new process serves. The shutdown is asked for then too.
    HandedOver,
}

/// Why a new process did not take over.
#[derive(Debug)]
enum Failure {
    /// It would be killed with this one.
    Init,
    NotStarted(io::Error),
    Ended(Option<ExitStatus>),
    NotReady(Seconds),
    Stopping,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Init => f.write_str(
                "this is process 1, with whose end the kernel ends all of the container",
            ),
            Self::NotStarted(error) => write!(f, "the new process was not started: {error}"),
            Self::Ended(Some(status)) => {
                write!(f, "the new process ended before it was ready: {status}")
            }
            Self::Ended(None) => f.write_str("the new process hung up before it was ready"),
            Self::NotReady(within) => {
                let seconds = within.duration().as_secs();
                write!(f, "the new process was not ready within {seconds} s")
            }
            Self::Stopping => f.write_str("this process was told to stop"),
        }
    }
}

/// The parts of a server that a restart concerns.
#[derive(Debug)]
pub struct Restarts<'a> {
    /// Begins the shutdown once a new process serves.
    pub handle: &'a ShutdownHandle,
    /// How long the new process and the clients of this one have.
    pub config: &'a config::Restart,
    /// The sockets that are handed over.
    pub listening: &'a Listening,
    /// Tells how many clients are still connected.
    pub connections: Acceptor,
    /// Saves what the new process should know.
    pub saved_state: Option<&'a StateSaver>,
    /// Is told of the new process.
    pub manager: Option<&'a Manager>,
    /// Leaves peers and registries to the new process.
    pub discovery: &'a Discovery,
}

impl Restarts<'_> {
    /// Restarts whenever that is requested, until a new process has taken over or
    /// the shutdown is asked for.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it kills a new process that has not taken over yet.
    pub async fn on(&self, requests: &Requests) -> Outcome {
        let stop = self.handle.token();
        while stop.run_until_cancelled(requests.asked()).await.is_some() {
            match self.replace(&stop).await {
                Ok(successor) => {
                    self.hand_over(successor, &stop).await;
                    return Outcome::HandedOver;
                }
                Err(failure) => {
                    warn!(%failure, "restart failed: this process goes on as before");
                    requests.settle();
                }
            }
        }
        Outcome::Stopping
    }

    /// Starts a new process, and waits until it is ready.
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

    /// The new process serves; this one sees those out who are with it.
    async fn hand_over(&self, successor: Successor, stop: &CancellationToken) {
        let pid = successor.release();
        if let (Some(manager), Some(pid)) = (self.manager, pid) {
            manager.pass_on(pid).await;
        }
        self.discovery.pass_on();
        self.listening.leave();
        info!(pid, "handed over: a new process serves");
        stop.run_until_cancelled(self.linger()).await;
        self.handle.request(Reason::Signal(signal()));
    }

    /// Until all clients have gone, or for as long as it is configured.
    async fn linger(&self) {
        let until = Instant::now() + self.config.linger.duration();
        while self.connections.stats().active > 0 && Instant::now() < until {
            sleep(LOOK).await;
        }
    }
}

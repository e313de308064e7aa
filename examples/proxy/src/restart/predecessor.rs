//! The new process's side of a restart: it takes over sockets and reports that it is ready.

use std::env;
use std::fmt;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::sockopt::socket_peercred;
use rustix::stdio::dup2_stdin;
use tracing::{info, warn};

use super::link::{self, READY};
use crate::inbound::sockets::{ActivationError, InheritedSockets};

/// The environment variable with the process id of the predecessor, which is the old process.
pub(super) const VARIABLE: &str = "PROXY_PREDECESSOR";

/// The time limit for receiving the sockets. It can be short, since the predecessor sent the
/// sockets before it started this process.
const PATIENCE: Duration = Duration::from_secs(10);

/// The sockets that this process inherits, and its predecessor, if it has one.
#[derive(Debug)]
pub struct Inheritance {
    given: InheritedSockets,
    predecessor: Option<Predecessor>,
}

/// The reason why inherited sockets cannot be used.
#[derive(Debug)]
pub enum InheritError {
    /// The sockets of the predecessor did not arrive.
    Predecessor(io::Error),
    /// A socket that the service manager opened cannot be used.
    Activation(ActivationError),
}

impl fmt::Display for InheritError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Predecessor(error) => {
                write!(f, "the predecessor's sockets did not arrive: {error}")
            }
            Self::Activation(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for InheritError {}

impl Inheritance {
    /// Takes over the sockets of a predecessor or of the service manager. A program must call it at
    /// its start, before it has other threads.
    ///
    /// # Errors
    ///
    /// When sockets were announced in the environment and cannot be received or used.
    pub fn take() -> Result<Self, InheritError> {
        let Some(predecessor) = Predecessor::find() else {
            let given = InheritedSockets::by_manager().map_err(InheritError::Activation)?;
            return Ok(Self {
                given,
                predecessor: None,
            });
        };
        let sockets = predecessor.sockets().map_err(InheritError::Predecessor)?;
        info!(
            predecessor = predecessor.pid,
            sockets = sockets.len(),
            "taking over"
        );
        Ok(Self {
            given: InheritedSockets::by_predecessor(sockets),
            predecessor: Some(predecessor),
        })
    }

    /// Returns the sockets, and the predecessor, which waits for a report that this process is
    /// ready.
    #[must_use]
    pub fn into_parts(self) -> (InheritedSockets, Option<Predecessor>) {
        (self.given, self.predecessor)
    }
}

/// The old process, which this process replaces.
#[derive(Debug)]
pub struct Predecessor {
    pid: i32,
    link: UnixStream,
}

impl Predecessor {
    /// Returns the process at the other end of standard input, if it has the process id in the
    /// environment variable. The variable alone proves nothing, since programs that the proxy
    /// starts inherit it, too.
    fn find() -> Option<Self> {
        let pid: i32 = env::var(VARIABLE).ok()?.parse().ok()?;
        let link = io::stdin().as_fd().try_clone_to_owned().ok()?;
        let peer = socket_peercred(&link).ok()?;
        (peer.pid.as_raw_nonzero().get() == pid).then(|| Self {
            pid,
            link: link.into(),
        })
    }

    fn sockets(&self) -> io::Result<Vec<crate::inbound::sockets::Socket>> {
        // Replaces standard input, so that `self.link` is the only copy of the descriptor, and
        // dropping it closes the connection.
        dup2_stdin(File::open("/dev/null")?)?;
        self.link.set_read_timeout(Some(PATIENCE))?;
        link::receive(&self.link)
    }

    /// Reports to the predecessor that this process is ready. The predecessor then begins to leave.
    pub fn report_ready(mut self) {
        if let Err(error) = self.link.write_all(&[READY]) {
            warn!(%error, "the predecessor has already ended");
        }
    }
}

//! The side of the new process.

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
use crate::inbound::sockets::{ActivationError, Given};

/// Names the process that is to be replaced, by its number.
pub(super) const VARIABLE: &str = "PROXY_PREDECESSOR";

/// What the predecessor sends is sent before this process is started.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was there before this process: sockets, and who passes them on.
#[derive(Debug)]
pub struct Inheritance {
    given: Given,
    predecessor: Option<Predecessor>,
}

/// Why that cannot be used.
#[derive(Debug)]
pub enum InheritError {
    /// What a predecessor sent did not arrive.
    Predecessor(io::Error),
    /// What a service manager opened is not what it should be.
    Activation(ActivationError),
}

impl fmt::Display for InheritError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Predecessor(error) => {
                write!(
                    f,
                    "the sockets of the process before did not arrive: {error}"
                )
            }
            Self::Activation(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for InheritError {}

impl Inheritance {
    /// Takes over what a predecessor hands over, or a service manager passes. It is
    /// for the beginning of a program, before there are threads.
    ///
    /// # Errors
    ///
    /// When there is something, and it cannot be used.
    pub fn take() -> Result<Self, InheritError> {
        let Some(predecessor) = Predecessor::find() else {
            let given = Given::by_manager().map_err(InheritError::Activation)?;
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
            given: Given::by_predecessor(sockets),
            predecessor: Some(predecessor),
        })
    }

    /// The sockets, and whom to tell when this process is ready.
    #[must_use]
    pub fn into_parts(self) -> (Given, Option<Predecessor>) {
        (self.given, self.predecessor)
    }
}

/// The process that this one replaces.
#[derive(Debug)]
pub struct Predecessor {
    pid: i32,
    link: UnixStream,
}

impl Predecessor {
    /// The process at the other end of the standard input, if it is the one that
    /// the environment names. A variable alone says nothing: it stays set, and
    /// reaches the programs that this process starts.
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
        // The link is to end with the one that is kept here.
        dup2_stdin(File::open("/dev/null")?)?;
        self.link.set_read_timeout(Some(PATIENCE))?;
        link::receive(&self.link)
    }

    /// Has it leave: this process is ready.
    pub fn relieve(mut self) {
        if let Err(error) = self.link.write_all(&[READY]) {
            warn!(%error, "the process before is gone already");
        }
    }
}

//! The side of the old process.

use std::env;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{self, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tracing::warn;

use super::link::{self, READY};
use super::predecessor::VARIABLE;
use crate::inbound::sockets::Socket;

/// What a new process that is not wanted has to end by itself.
const DISMISSAL: Duration = Duration::from_secs(2);

/// What a service manager says to one process, and not to those that it starts.
const OF_THIS_PROCESS: [&str; 4] = ["WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];

/// A process that is to replace this one. Dropped, it is killed, unless it was
/// released.
#[derive(Debug)]
pub(super) struct Successor {
    child: Option<Child>,
    link: tokio::net::UnixStream,
}

impl Successor {
    /// Starts the program as this process was started, whatever that is by now,
    /// and sends it the sockets.
    pub(super) fn start(sockets: Vec<Socket>) -> io::Result<Self> {
        let mut arguments = env::args_os();
        // Not what this process runs, which may have been deleted since: what has
        // its name now.
        let program = arguments.next().ok_or(io::ErrorKind::NotFound)?;
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        link::send(&ours, &sockets)?;
        let link = tokio::net::UnixStream::from_std(ours)?;
        let mut command = Command::new(program);
        for variable in OF_THIS_PROCESS {
            command.env_remove(variable);
        }
        let child = command
            .args(arguments)
            .env(VARIABLE, process::id().to_string())
            .stdin(OwnedFd::from(theirs))
            .spawn()?;
        Ok(Self {
            child: Some(child),
            link,
        })
    }

    pub(super) fn id(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// Whether it says that it is ready; the alternative is that it hangs up.
    pub(super) async fn ready(&mut self) -> bool {
        matches!(self.link.read_u8().await, Ok(READY))
    }

    /// Lets it live, and says who it is.
    pub(super) fn release(mut self) -> Option<u32> {
        self.child.take().as_ref().and_then(Child::id)
    }

    /// Ends it, and waits for that: it may have accepted connections, so it is asked
    /// first.
    pub(super) async fn dismiss(mut self) -> Option<ExitStatus> {
        let child = self.child.as_mut()?;
        let pid = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        if let Some(pid) = pid
            && let Err(error) = kill_process(pid, Signal::TERM)
        {
            warn!(%error, "the new process could not be asked to end");
        }
        let status = match timeout(DISMISSAL, child.wait()).await {
            Ok(status) => status,
            Err(_) => {
                // It may have ended this moment, which `wait` finds.
                let _ = child.start_kill();
                child.wait().await
            }
        };
        self.child = None;
        status.ok()
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It is reaped by the runtime, or by whoever inherits it.
            let _ = child.start_kill();
        }
    }
}

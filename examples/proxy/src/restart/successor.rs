//! The old process's side of a restart: it starts the new process and waits until that process is
//! ready.

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

/// The time that an unwanted new process has to end after SIGTERM. After that it gets SIGKILL.
const DISMISSAL: Duration = Duration::from_secs(2);

/// The environment variables that the service manager means for this process alone. The new process
/// does not get them.
const OF_THIS_PROCESS: [&str; 4] = ["WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];

/// A new process that is to replace this process. Dropping it kills the new process, unless
/// [`release`](Self::release) was called.
#[derive(Debug)]
pub(super) struct Successor {
    child: Option<Child>,
    link: tokio::net::UnixStream,
}

impl Successor {
    /// Starts the program again, with the name and the arguments of this process, and sends the
    /// sockets to the new process.
    pub(super) fn start(sockets: Vec<Socket>) -> io::Result<Self> {
        let mut arguments = env::args_os();
        // Starts the program by its name and not by `/proc/self/exe`, since the file may have been
        // replaced by a new version.
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

    /// Waits until the new process reports that it is ready. Returns false if the new process
    /// closes the connection instead.
    pub(super) async fn ready(&mut self) -> bool {
        matches!(self.link.read_u8().await, Ok(READY))
    }

    /// Lets the new process run on when `self` is dropped, and returns its process id.
    pub(super) fn release(mut self) -> Option<u32> {
        self.child.take().as_ref().and_then(Child::id)
    }

    /// Ends the new process and waits for its end. Sends SIGTERM before SIGKILL, since the new
    /// process may have accepted connections.
    pub(super) async fn dismiss(mut self) -> Option<ExitStatus> {
        let child = self.child.as_mut()?;
        let pid = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        if let Some(pid) = pid
            && let Err(error) = kill_process(pid, Signal::TERM)
        {
            warn!(%error, "SIGTERM could not be sent to the new process");
        }
        let status = match timeout(DISMISSAL, child.wait()).await {
            Ok(status) => status,
            Err(_) => {
                // Ignores the error: it means that the process has just ended, which `wait`
                // reports.
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
            // Does not wait: tokio's runtime reaps the killed process, or the parent process does
            // that inherits it.
            let _ = child.start_kill();
        }
    }
}

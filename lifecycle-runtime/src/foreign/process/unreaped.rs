//! Signals to a child, as long as its process number cannot belong to another process.
//!
//! 1. Until a child is reaped, the kernel gives its number to no other process. A group with that number was created by
//!    the child. The code here signals no number whose child is reaped.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, getpgid, kill_process, kill_process_group};
use tokio::process::Child;

use super::view;

/// The receiver of a signal.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    /// The process group of which the child is the leader. A signal goes to the whole group.
    Group(Pid),
    Process(Pid),
}

impl Target {
    /// Returns the target of signals to `child`, or `None` if tokio has reaped the child.
    ///
    /// # Errors
    ///
    /// If other code has reaped the child, so that its number may belong to another process. Only Linux shows that.
    pub(super) fn of(child: &Child) -> io::Result<Option<Self>> {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        let Some(pid) = id.and_then(Pid::from_raw) else {
            return Ok(None);
        };
        view::check_unreaped(pid)?;
        let leads = getpgid(Some(pid)).is_ok_and(|group| group == pid);
        Ok(Some(if leads {
            Self::Group(pid)
        } else {
            Self::Process(pid)
        }))
    }

    /// Kills the child, and the group that it created, if any. Errors are ignored: no stronger signal exists.
    pub(super) fn kill(self) {
        let (Self::Group(pid) | Self::Process(pid)) = self;
        let _ = kill_process_group(pid, Signal::KILL);
        // The child is also killed by its own number, since it may have left its group.
        let _ = kill_process(pid, Signal::KILL);
    }

    fn terminate(self) -> io::Result<()> {
        let sent = match self {
            Self::Group(pid) => kill_process_group(pid, Signal::TERM),
            Self::Process(pid) => kill_process(pid, Signal::TERM),
        };
        match sent {
            // `SRCH` means that the process has ended, as intended.
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(pid) => write!(f, "process group {pid}"),
            Self::Process(pid) => write!(f, "process {pid}"),
        }
    }
}

/// The way to signal a child until it is reaped, and to reap it.
///
/// The hook of a forced end signals from another thread. The lock is held during each signal and during the reaping, so
/// that no signal follows the reaping (rule 1: no number is signalled once its child is reaped). Dropping this value
/// takes the target away from the hook, since other code may reap the child from then on.
#[derive(Debug)]
pub(super) struct Unreaped {
    target: Target,
    reachable: Arc<Mutex<Option<Target>>>,
}

impl Unreaped {
    pub(super) fn new(target: Target) -> Self {
        Self {
            target,
            reachable: Arc::new(Mutex::new(Some(target))),
        }
    }

    pub(super) fn target(&self) -> Target {
        self.target
    }

    /// Returns a closure that kills the target, unless the child is reaped before the closure is called.
    pub(super) fn kill_hook(&self) -> impl FnOnce() + Send + 'static {
        let reachable = Arc::clone(&self.reachable);
        move || kill(&lock(&reachable))
    }

    /// Sends SIGTERM, unless the child is reaped.
    pub(super) fn terminate(&self) -> io::Result<()> {
        match *lock(&self.reachable) {
            Some(target) => target.terminate(),
            None => Ok(()),
        }
    }

    /// Sends SIGKILL, unless the child is reaped.
    pub(super) fn kill(&self) {
        kill(&lock(&self.reachable));
    }

    /// Reaps the child if it has ended, and returns whether it has ended.
    pub(super) fn reap(&self, child: &mut Child) -> io::Result<bool> {
        let mut reachable = lock(&self.reachable);
        let ended = child.try_wait()?.is_some();
        if ended {
            *reachable = None;
        }
        Ok(ended)
    }

    /// Waits until the child has ended, and reaps it.
    pub(super) async fn wait(&self, child: &mut Child) -> io::Result<()> {
        let mut ended = pin!(child.wait());
        poll_fn(|cx| {
            let mut reachable = lock(&self.reachable);
            let poll = ended.as_mut().poll(cx);
            if poll.is_ready() {
                *reachable = None;
            }
            poll.map_ok(drop)
        })
        .await
    }
}

impl Drop for Unreaped {
    fn drop(&mut self) {
        *lock(&self.reachable) = None;
    }
}

fn kill(reachable: &Option<Target>) {
    if let Some(target) = reachable {
        target.kill();
    }
}

/// Locks the target, even if the lock is poisoned: a panic cannot leave the target half changed.
fn lock(reachable: &Mutex<Option<Target>>) -> MutexGuard<'_, Option<Target>> {
    reachable.lock().unwrap_or_else(PoisonError::into_inner)
}

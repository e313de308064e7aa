//! The supervision of one process, from its start until it is reaped. Each process has a
//! supervising task, which ends after it has reaped the process. So no zombie is left once these
//! tasks have ended.
//!
//! The runtime's component for `tokio::process::Child` does not fit here, since it sends SIGTERM at
//! once. These processes get time to end after their input was closed, before SIGTERM.

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::signal::unix::{self, SignalKind};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{sleep, timeout};
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::resources::{Resources, SessionLog};

/// The length of the longest line of standard error that is logged.
const LONGEST_LINE: usize = 4096;

/// The time for which standard error is read after the process has ended. A child of the process
/// may have inherited the stream and may never close it.
const STDERR_GRACE: Duration = Duration::from_millis(200);

/// Tokens with which the pool makes all supervisors stop their processes.
#[derive(Clone, Debug, Default)]
pub struct StopSignals {
    /// The token to cancel when processes that have not ended by themselves shall get SIGTERM.
    pub terminate: CancellationToken,
    /// The token to cancel when all processes shall get SIGKILL.
    pub kill: CancellationToken,
}

/// The process groups that have started and are not reaped. Once a group is reaped, its number may
/// belong to another process.
#[derive(Clone, Debug, Default)]
pub struct Groups(Arc<Mutex<BTreeSet<i32>>>);

impl Groups {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<i32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends SIGKILL to every group, without waiting for its end.
    pub fn kill(&self) {
        for group in self.lock().iter().filter_map(|raw| Pid::from_raw(*raw)) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    /// Formats the groups, such as `2 processes: 4711, 4712`.
    pub fn summary(&self) -> String {
        let groups = self.lock();
        let names: Vec<_> = groups.iter().map(i32::to_string).collect();
        let plural = if names.len() == 1 { "" } else { "es" };
        format!("{} process{plural}: {}", names.len(), names.join(", "))
    }

    /// Returns the number of process groups that are not reaped.
    pub fn count(&self) -> usize {
        self.lock().len()
    }
}

/// A guard that lists a process group in `groups` until the guard is dropped.
#[derive(Debug)]
struct GroupGuard {
    groups: Groups,
    group: Pid,
}

impl Drop for GroupGuard {
    fn drop(&mut self) {
        self.groups.lock().remove(&self.group.as_raw_pid());
    }
}

/// A process that was started, with the pipes to it.
#[derive(Debug)]
pub struct Started {
    /// The process's standard input, for requests. Closing it asks the process to end.
    pub stdin: ChildStdin,
    /// The process's standard output, which carries answers.
    pub stdout: ChildStdout,
    /// The supervisor. The caller must run its `supervise`.
    pub supervisor: Supervisor,
}

/// The owner of a process, which waits for the process's end and reaps it.
#[derive(Debug)]
pub struct Supervisor {
    child: Child,
    stderr: ChildStderr,
    changes: unix::Signal,
    guard: GroupGuard,
    permit: OwnedSemaphorePermit,
    resources: Option<Resources>,
}

impl Supervisor {
    /// Starts `command` as the leader of a process group. The supervisor holds `permit` and
    /// `resources` until the process is reaped.
    ///
    /// # Errors
    ///
    /// When the process cannot be started.
    pub fn start(
        command: &[String],
        groups: &Groups,
        permit: OwnedSemaphorePermit,
        resources: Option<Resources>,
    ) -> io::Result<Started> {
        // Created before the process starts, so that the signal of the process's end is not missed.
        let changes = unix::signal(SignalKind::child())?;
        let (program, arguments) = command
            .split_first()
            .ok_or_else(|| io::Error::other("the command is empty"))?;
        let mut command = Command::new(program);
        if let Some(resources) = &resources {
            resources.set_environment(&mut command);
        }
        let mut child = command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let no_pipes = || io::Error::other("the process has no pipes");
        let group = child
            .id()
            .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let group = group.ok_or_else(no_pipes)?;
        groups.lock().insert(group.as_raw_pid());
        let guard = GroupGuard {
            groups: groups.clone(),
            group,
        };
        let stdin = child.stdin.take().ok_or_else(no_pipes)?;
        let stdout = child.stdout.take().ok_or_else(no_pipes)?;
        let stderr = child.stderr.take().ok_or_else(no_pipes)?;
        Ok(Started {
            stdin,
            stdout,
            supervisor: Self {
                child,
                stderr,
                changes,
                guard,
                permit,
                resources,
            },
        })
    }

    /// Returns the process id.
    pub const fn pid(&self) -> Pid {
        self.guard.group
    }

    /// Waits until the process ends by itself or `released` is cancelled, which means that the
    /// process's input was closed. The process then has the time `grace` to end. If it still runs,
    /// it gets SIGTERM and the same time again. Cancels `ended` once the process has ended.
    pub async fn supervise(
        self,
        released: CancellationToken,
        ended: CancellationToken,
        signals: StopSignals,
        grace: Duration,
    ) {
        let Self {
            mut child,
            stderr,
            mut changes,
            guard,
            permit,
            mut resources,
        } = self;
        let pid = guard.group;
        let ending = async {
            let mut exit = pin!(wait_for_exit(pid, &mut changes));
            tokio::select! {
                () = exit.as_mut() => debug!(%pid, "a subprocess ended by itself"),
                () = released.cancelled() => stop(pid, exit, &signals, grace).await,
                () = signals.kill.cancelled() => {}
            }
            ended.cancel();
            // Kills the members of the group that outlived its leader, and the leader if it still
            // runs. The group's number cannot belong to another process yet, since the leader is
            // not reaped.
            let _ = kill_process_group(pid, Signal::KILL);
            drop(guard);
            let status = child.wait().await;
            debug!(%pid, ?status, "a subprocess was reaped");
        };
        let log = resources.as_mut().and_then(Resources::take_log);
        let listening = async {
            let grace_over = async {
                ended.cancelled().await;
                sleep(STDERR_GRACE).await;
            };
            tokio::select! {
                () = log_lines(pid, stderr, log) => {}
                () = grace_over => {}
            }
        };
        tokio::join!(ending, listening);
        if let Some(resources) = resources {
            resources.close().await;
        }
        drop(permit);
    }
}

async fn stop(
    pid: Pid,
    mut exit: std::pin::Pin<&mut impl Future<Output = ()>>,
    signals: &StopSignals,
    grace: Duration,
) {
    tokio::select! {
        () = exit.as_mut() => return,
        () = sleep(grace) => {}
        () = signals.terminate.cancelled() => {}
        () = signals.kill.cancelled() => return,
    }
    debug!(%pid, "a subprocess still runs after its input was closed: sending SIGTERM");
    let _ = kill_process_group(pid, Signal::TERM);
    tokio::select! {
        ended = timeout(grace, exit) => {
            if ended.is_err() {
                debug!(%pid, "a subprocess still runs after SIGTERM: sending SIGKILL");
            }
        }
        () = signals.kill.cancelled() => {}
    }
}

/// Waits until the process has ended, without reaping it.
async fn wait_for_exit(pid: Pid, changes: &mut unix::Signal) {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    while let Ok(None) = waitid(WaitId::Pid(pid), look) {
        changes.recv().await;
    }
}

/// Logs the lines of a process's standard error until the stream ends.
async fn log_lines(pid: Pid, stderr: ChildStderr, mut log: Option<SessionLog>) {
    let mut lines = FramedRead::new(stderr, LinesCodec::new_with_max_length(LONGEST_LINE));
    while let Some(line) = lines.next().await {
        // Goes on after a line that is too long: the codec skips its rest.
        let line = match line {
            Ok(line) => line,
            Err(LinesCodecError::MaxLineLengthExceeded) => continue,
            Err(LinesCodecError::Io(_)) => return,
        };
        debug!(%pid, line, "subprocess stderr");
        if let Some(to) = &mut log
            && let Err(error) = to.write(&line).await
        {
            debug!(%pid, %error, "writing a session's log failed");
            log = None;
        }
    }
}

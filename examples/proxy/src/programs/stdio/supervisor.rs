//! The life of one subprocess, from its start to when it is reaped: each has a
//! task of its own that ends only then, so to wait for the tasks is to leave no
//! zombie.

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

/// How much of a line on standard error is logged.
const LONGEST_LINE: usize = 4096;

/// How long standard error is read once the process has ended: another one may
/// have inherited it.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// What all supervisors of a pool are told.
#[derive(Clone, Debug, Default)]
pub struct Orders {
    /// Cancelled: who still waits for an end by itself sends SIGTERM.
    pub terminate: CancellationToken,
    /// Cancelled: SIGKILL, now.
    pub kill: CancellationToken,
}

/// The process groups that were started and not reaped: only these numbers are
/// certain not to be another's.
#[derive(Clone, Debug, Default)]
pub struct Groups(Arc<Mutex<BTreeSet<i32>>>);

impl Groups {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<i32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Kills every group, without waiting.
    pub fn kill(&self) {
        for group in self.lock().iter().filter_map(|raw| Pid::from_raw(*raw)) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    /// `2 processes: 4711, 4712`
    pub fn names(&self) -> String {
        let groups = self.lock();
        let names: Vec<_> = groups.iter().map(i32::to_string).collect();
        let plural = if names.len() == 1 { "" } else { "es" };
        format!("{} process{plural}: {}", names.len(), names.join(", "))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.lock().len()
    }
}

/// A group while it is registered.
#[derive(Debug)]
struct Registered {
    groups: Groups,
    group: Pid,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.groups.lock().remove(&self.group.as_raw_pid());
    }
}

/// A process that was started, with its pipes for whoever talks to it.
#[derive(Debug)]
pub struct Started {
    /// Requests go in here; closing it asks the process to end.
    pub stdin: ChildStdin,
    /// Answers come out of here.
    pub stdout: ChildStdout,
    /// Who sees to its end.
    pub supervisor: Supervisor,
}

/// Owns a process.
#[derive(Debug)]
pub struct Supervisor {
    child: Child,
    stderr: ChildStderr,
    changes: unix::Signal,
    registered: Registered,
    place: OwnedSemaphorePermit,
    resources: Option<Resources>,
}

impl Supervisor {
    /// Starts `command` as the leader of a process group. It keeps `place`
    /// and `resources` until it is reaped.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn start(
        command: &[String],
        groups: &Groups,
        place: OwnedSemaphorePermit,
        resources: Option<Resources>,
    ) -> io::Result<Started> {
        // Before the process, so that its end is not missed.
        let changes = unix::signal(SignalKind::child())?;
        let (program, arguments) = command
            .split_first()
            .ok_or_else(|| io::Error::other("the command is empty"))?;
        let mut command = Command::new(program);
        if let Some(resources) = &resources {
            resources.equip(&mut command);
        }
        let mut child = command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let gone = || io::Error::other("the process has no pipes");
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let group = group.ok_or_else(gone)?;
        groups.lock().insert(group.as_raw_pid());
        let registered = Registered {
            groups: groups.clone(),
            group,
        };
        let stdin = child.stdin.take().ok_or_else(gone)?;
        let stdout = child.stdout.take().ok_or_else(gone)?;
        let stderr = child.stderr.take().ok_or_else(gone)?;
        Ok(Started {
            stdin,
            stdout,
            supervisor: Self {
                child,
                stderr,
                changes,
                registered,
                place,
                resources,
            },
        })
    }

    /// Its number.
    pub const fn pid(&self) -> Pid {
        self.registered.group
    }

    /// Waits until the process ends by itself or is `released`, that is, its
    /// standard input was closed; then sees it out: it has `grace` to end, and
    /// as long again after SIGTERM. `ended` is cancelled once it has.
    pub async fn supervise(
        self,
        released: CancellationToken,
        ended: CancellationToken,
        orders: Orders,
        grace: Duration,
    ) {
        let Self {
            mut child,
            stderr,
            mut changes,
            registered,
            place,
            mut resources,
        } = self;
        let pid = registered.group;
        let ending = async {
            let mut exit = pin!(exit_of(pid, &mut changes));
            tokio::select! {
                () = exit.as_mut() => debug!(%pid, "a subprocess ended by itself"),
                () = released.cancelled() => see_out(pid, exit, &orders, grace).await,
                () = orders.kill.cancelled() => {}
            }
            ended.cancel();
            // What is left of the group has outlived its leader, or is to die
            // with it. The number is still theirs, as nobody has reaped it.
            let _ = kill_process_group(pid, Signal::KILL);
            drop(registered);
            let status = child.wait().await;
            debug!(%pid, ?status, "a subprocess was reaped");
        };
        let log = resources.as_mut().and_then(Resources::take_log);
        let listening = async {
            let last_words = async {
                ended.cancelled().await;
                sleep(LAST_WORDS).await;
            };
            tokio::select! {
                () = log_lines(pid, stderr, log) => {}
                () = last_words => {}
            }
        };
        tokio::join!(ending, listening);
        if let Some(resources) = resources {
            resources.close().await;
        }
        drop(place);
    }
}

async fn see_out(
    pid: Pid,
    mut exit: std::pin::Pin<&mut impl Future<Output = ()>>,
    orders: &Orders,
    grace: Duration,
) {
    tokio::select! {
        () = exit.as_mut() => return,
        () = sleep(grace) => {}
        () = orders.terminate.cancelled() => {}
        () = orders.kill.cancelled() => return,
    }
    debug!(%pid, "a subprocess goes on after its input was closed: SIGTERM");
    let _ = kill_process_group(pid, Signal::TERM);
    tokio::select! {
        ended = timeout(grace, exit) => {
            if ended.is_err() {
                debug!(%pid, "a subprocess goes on after SIGTERM: SIGKILL");
            }
        }
        () = orders.kill.cancelled() => {}
    }
}

/// Waits until the process has ended, and leaves it to be reaped.
async fn exit_of(pid: Pid, changes: &mut unix::Signal) {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    while let Ok(None) = waitid(WaitId::Pid(pid), look) {
        changes.recv().await;
    }
}

/// Logs what a process says on standard error, to its end.
async fn log_lines(pid: Pid, stderr: ChildStderr, mut log: Option<SessionLog>) {
    let mut lines = FramedRead::new(stderr, LinesCodec::new_with_max_length(LONGEST_LINE));
    while let Some(line) = lines.next().await {
        // After a line that was too long the rest of it is skipped.
        let line = match line {
            Ok(line) => line,
            Err(LinesCodecError::MaxLineLengthExceeded) => continue,
            Err(LinesCodecError::Io(_)) => return,
        };
        debug!(%pid, line, "a subprocess says");
        if let Some(to) = &mut log
            && let Err(error) = to.write(&line).await
        {
            debug!(%pid, %error, "the log of a session cannot be written");
            log = None;
        }
    }
}

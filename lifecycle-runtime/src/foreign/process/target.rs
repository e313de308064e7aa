//! What a signal goes to: a process, or the group that it leads.
//!
//! A group's number stays its own as long as its leader is not reaped. So the leader is looked at without reaping it
//! (`waitid` with `WNOWAIT`) until everything of the group has ended.

use std::fmt;
use std::io;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getpgid, kill_process, kill_process_group, waitid,
};
use tokio::process::Child;

use crate::foreign::until::pause;

#[derive(Clone, Copy)]
pub(super) enum Target {
    /// The child leads a process group, so its own children are told with it.
    Group(Pid),
    Process(Pid),
}

impl Target {
    /// `None` once the child is reaped. Until then its number cannot be another's.
    pub(super) fn of(child: &Child) -> Option<Self> {
        let pid = Pid::from_raw(i32::try_from(child.id()?).ok()?)?;
        let leads = getpgid(Some(pid)).is_ok_and(|group| group == pid);
        Some(if leads {
            Self::Group(pid)
        } else {
            Self::Process(pid)
        })
    }

    pub(super) fn terminate(self) -> io::Result<()> {
        self.signal(Signal::TERM)
    }

    /// Kills. Whether it worked, the wait that follows shows.
    pub(super) fn kill(self) {
        let _ = self.signal(Signal::KILL);
    }

    fn signal(self, signal: Signal) -> io::Result<()> {
        let sent = match self {
            Self::Group(pid) => kill_process_group(pid, signal),
            Self::Process(pid) => kill_process(pid, signal),
        };
        match sent {
            // It is gone already, which is what was wanted.
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns whether the child itself has ended, without reaping it.
    pub(super) fn has_ended(self) -> io::Result<bool> {
        let (Self::Group(pid) | Self::Process(pid)) = self;
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match waitid(WaitId::Pid(pid), options) {
            Ok(status) => Ok(status.is_some()),
            // Somebody else has reaped it.
            Err(Errno::CHILD) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// The others of the group that have not ended.
    pub(super) fn others(self) -> io::Result<Vec<Pid>> {
        match self {
            Self::Process(_) => Ok(Vec::new()),
            Self::Group(leader) => group::others(leader),
        }
    }

    /// Waits until the child and the others of its group have ended; the child is not reaped. Those that are left when
    /// the child has ended are told once more: they may have been started after the first signal.
    pub(super) async fn ends(self, child: &mut Child) -> io::Result<()> {
        if let Self::Process(_) = self {
            child.wait().await?;
            return Ok(());
        }
        let mut pauses = Pauses::default();
        while !self.has_ended()? {
            pauses.next().await;
        }
        if !self.others()?.is_empty() {
            self.terminate()?;
        }
        self.others_end().await
    }

    /// Waits until the others of the group have ended.
    pub(super) async fn others_end(self) -> io::Result<()> {
        let mut pauses = Pauses::default();
        while !self.others()?.is_empty() {
            pauses.next().await;
        }
        Ok(())
    }

    /// What a report adds of a group whose leader has ended while others live: `: 2 others of it were left (12, 13)`.
    pub(super) fn left(self) -> io::Result<String> {
        let others = self.others()?;
        if others.is_empty() || !self.has_ended()? {
            return Ok(String::new());
        }
        /// How many are named.
        const NAMED: usize = 8;
        let named: Vec<_> = others.iter().take(NAMED).map(Pid::to_string).collect();
        let more = match others.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Ok(format!(
            ": its leader had ended, these had not: {}{more}",
            named.join(", ")
        ))
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

/// Pauses between two looks, each longer than the one before: nobody wakes who waits for a group.
struct Pauses(Duration);

impl Default for Pauses {
    fn default() -> Self {
        Self(Duration::from_millis(1))
    }
}

impl Pauses {
    async fn next(&mut self) {
        const LONGEST: Duration = Duration::from_millis(50);
        pause(self.0).await;
        self.0 = (self.0 * 2).min(LONGEST);
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod group {
    //! The processes of a group, as proc(5) lists them. A signal cannot tell: it reaches zombies, too.

    use std::fs;
    use std::io;

    use rustix::process::Pid;

    pub(super) fn others(leader: Pid) -> io::Result<Vec<Pid>> {
        let entries = fs::read_dir("/proc").map_err(|error| {
            let text = format!("the others of process group {leader} are not known: {error}");
            io::Error::new(error.kind(), text)
        })?;
        let numbers = entries
            .flatten()
            .filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
        Ok(numbers
            .filter(|&pid| pid != leader && lives_in(pid, leader))
            .collect())
    }

    /// Whether a process is of this group and has not ended. One that is gone meanwhile is not.
    fn lives_in(pid: Pid, leader: Pid) -> bool {
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
            return false;
        };
        // `12 (name) S 1 12 …`: state, parent, group. The name may hold anything, brackets too.
        let Some((_, fields)) = stat.rsplit_once(')') else {
            return false;
        };
        let mut fields = fields.split_whitespace();
        let ended = matches!(fields.next(), Some("Z" | "X" | "x"));
        let group = fields.nth(1).and_then(|group| group.parse().ok());
        !ended && group == Some(leader.as_raw_nonzero().get())
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod group {
    //! Nothing lists the processes of a group here, so only its leader is waited for.

    use std::io;

    use rustix::process::Pid;

    pub(super) fn others(_: Pid) -> io::Result<Vec<Pid>> {
        Ok(Vec::new())
    }
}

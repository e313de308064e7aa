//! The end of a whole process group, not only of its leader.
//!
//! The leader stays unreaped until the other processes of the group have ended. So the number of the group cannot be
//! reused, and the group can still be killed. The kernel does not notify a process when a process that is not its child
//! ends, so the group is checked repeatedly, with growing pauses.
//!
//! If the other processes are not visible, the leader is reaped when it ends. Signal 0, which has no effect, then shows
//! whether a group with that number exists. As long as such a group exists, it may be this group, or another group that
//! got the number. So the cleanup waits, and does not kill.

use std::io;
use std::time::Duration;

use rustix::process::{Pid, test_kill_process_group};
use tokio::process::Child;

use super::super::until::{pause, until};
use super::unreaped::Unreaped;
use super::view::{View, members, view};
use crate::{BoxError, Context};

const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

pub(super) struct Group<'a> {
    leader: Pid,
    child: &'a mut Child,
    unreaped: &'a Unreaped,
    /// The processes of the group that lived at the last check, after the leader had ended.
    rest: Vec<Pid>,
    /// The processes of the group that lived when the first SIGTERM was sent.
    first_members: Vec<Pid>,
    /// Whether a second SIGTERM was sent, because some processes are younger than the first SIGTERM.
    terminated_again: bool,
    /// Whether the system shows only the leader of the group.
    hidden: bool,
}

/// The state of a process group.
#[derive(PartialEq, Eq)]
enum State {
    LeaderRuns,
    /// The leader has ended and is not reaped, and other processes of the group live.
    RestLives,
    /// The leader is reaped, and a group with its number exists.
    NumberInUse,
    Gone,
}

impl<'a> Group<'a> {
    pub(super) fn new(leader: Pid, child: &'a mut Child, unreaped: &'a Unreaped) -> Self {
        Self {
            leader,
            child,
            unreaped,
            rest: Vec::new(),
            first_members: Vec::new(),
            terminated_again: false,
            hidden: false,
        }
    }

    /// Creates the value for a system that shows only the leader of a group.
    #[cfg(all(test, target_os = "linux"))]
    pub(super) fn hidden(leader: Pid, child: &'a mut Child, unreaped: &'a Unreaped) -> Self {
        Self {
            hidden: true,
            ..Self::new(leader, child, unreaped)
        }
    }

    /// Sends SIGTERM to the group and waits until all its processes have ended. At the soft deadline it kills the
    /// processes that still live.
    ///
    /// # Errors
    ///
    /// If some process of the group had to be killed, or if it is unknown whether all processes have ended.
    pub(super) async fn end(mut self, cx: &Context) -> Result<(), BoxError> {
        let leader = self.leader;
        self.first_members = members(leader).unwrap_or_default();
        self.terminate()?;
        // The child's stdin is closed, as tokio's `wait` does: a process may read its input to the end before it exits.
        drop(self.child.stdin.take());
        cx.waiting_for(move || format!("process group {leader} to end after SIGTERM"));
        if let Some(gone) = until(cx.deadline(), self.gone(cx)).await {
            return Ok(gone?);
        }
        let leader_ran = match self.state()? {
            State::Gone => return Ok(()),
            State::NumberInUse => {
                return Err(format!(
                    "process group {leader} may have outlived its leader and SIGTERM; it was not killed, since its \
                     number may belong to another group by now"
                )
                .into());
            }
            State::LeaderRuns => true,
            State::RestLives => false,
        };
        let left = members(leader).unwrap_or_default();
        self.unreaped.kill();
        cx.waiting_for(move || format!("process group {leader} to end after SIGKILL"));
        self.gone(cx).await?;
        Err(killed(leader, leader_ran, &left).into())
    }

    /// Waits until all processes of the group have ended, and reaps the leader.
    async fn gone(&mut self, cx: &Context) -> io::Result<()> {
        let mut wait = FIRST_PAUSE;
        loop {
            match self.state()? {
                State::Gone => return Ok(()),
                State::RestLives => self.wait_for_rest(cx)?,
                State::LeaderRuns | State::NumberInUse => {}
            }
            pause(wait).await;
            wait = (wait * 2).min(LONGEST_PAUSE);
        }
    }

    /// Sends a second SIGTERM if a process that outlived the leader is younger than the first SIGTERM. Otherwise it
    /// sends none: many programs take a second SIGTERM as an order to hurry.
    fn wait_for_rest(&mut self, cx: &Context) -> io::Result<()> {
        let younger = |pid| !self.first_members.contains(pid);
        if !self.terminated_again && self.rest.iter().any(younger) {
            self.terminated_again = true;
            self.terminate()?;
        }
        let text = format!(
            "{} of process group {} to end, which outlived its leader",
            listed(&self.rest),
            self.leader
        );
        cx.waiting_for(move || text.clone());
        Ok(())
    }

    fn state(&mut self) -> io::Result<State> {
        if !self.hidden {
            match view(self.leader, &self.rest)? {
                View::LeaderRuns => return Ok(State::LeaderRuns),
                View::LeaderEnded { rest } if rest.is_empty() => {
                    return Ok(if self.unreaped.reap(self.child)? {
                        State::Gone
                    } else {
                        State::LeaderRuns
                    });
                }
                View::LeaderEnded { rest } => {
                    self.rest = rest;
                    return Ok(State::RestLives);
                }
                View::Hidden => self.hidden = true,
            }
        }
        if !self.unreaped.reap(self.child)? {
            return Ok(State::LeaderRuns);
        }
        Ok(match test_kill_process_group(self.leader) {
            Ok(()) => State::NumberInUse,
            // An error means that no such group exists, or that it belongs to another user.
            Err(_) => State::Gone,
        })
    }

    fn terminate(&mut self) -> io::Result<()> {
        match self.unreaped.terminate() {
            // The error counts only while the leader runs: some systems refuse a signal to a group in which all
            // processes have ended.
            Err(error) if self.state()? == State::LeaderRuns => Err(error),
            _ => Ok(()),
        }
    }
}

fn killed(leader: Pid, leader_ran: bool, left: &[Pid]) -> String {
    let outlived = if leader_ran {
        "did not end after SIGTERM"
    } else {
        "outlived its leader and SIGTERM"
    };
    let mut text = format!("process group {leader} {outlived} and had to be killed");
    if !left.is_empty() {
        text.push_str("; what still ran: ");
        text.push_str(&listed(left));
    }
    text
}

/// Lists the numbers of the first few processes, and adds how many more there are.
fn listed(pids: &[Pid]) -> String {
    const MOST: usize = 8;
    let shown: Vec<String> = pids.iter().take(MOST).map(Pid::to_string).collect();
    let shown = shown.join(", ");
    match (pids.len(), pids.len().saturating_sub(MOST)) {
        (1, _) => format!("process {shown}"),
        (_, 0) => format!("processes {shown}"),
        (_, more) => format!("processes {shown} and {more} more"),
    }
}

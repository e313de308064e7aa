//! The functions for systems that have no common system call to list the processes of a group.

use std::io;

use rustix::process::Pid;

use super::View;

/// Returns that the system shows only the leader.
pub(in super::super) fn view(_leader: Pid, _known: &[Pid]) -> io::Result<View> {
    Ok(View::Hidden)
}

/// Checks nothing. The code relies on tokio being the only code that reaps tokio's children.
pub(in super::super) fn check_unreaped(_pid: Pid) -> io::Result<()> {
    Ok(())
}

/// Returns an empty list, since the system shows no members.
pub(in super::super) fn members(_leader: Pid) -> io::Result<Vec<Pid>> {
    Ok(Vec::new())
}

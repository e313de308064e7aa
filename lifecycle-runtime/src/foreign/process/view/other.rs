//! Systems without a common system call that lists the processes of a group.

use std::io;

use rustix::process::Pid;

use super::View;

/// Returns that nothing is visible.
pub(in super::super) fn view(_leader: Pid, _known: &[Pid]) -> io::Result<View> {
    Ok(View::Hidden)
}

/// Checks nothing, and so relies on tokio being the only one to reap its children.
pub(in super::super) fn check_unreaped(_pid: Pid) -> io::Result<()> {
    Ok(())
}

/// Returns no members.
pub(in super::super) fn members(_leader: Pid) -> io::Result<Vec<Pid>> {
    Ok(Vec::new())
}

//! Functions that read the state of a process group without changing it.

use rustix::process::Pid;

#[cfg(any(target_os = "linux", target_os = "android"))]
mod linux;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod other;

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) use linux::{check_unreaped, members, view};
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) use other::{check_unreaped, members, view};

/// The visible state of a group whose leader is not reaped.
#[derive(Debug, PartialEq, Eq)]
#[cfg_attr(
    not(any(target_os = "linux", target_os = "android")),
    expect(dead_code, reason = "only Linux shows the rest of a group")
)]
pub(super) enum View {
    LeaderRuns,
    /// The leader has ended; `rest` lists the other processes of the group that live. A process that has ended does not
    /// live, even if it is not reaped.
    LeaderEnded {
        rest: Vec<Pid>,
    },
    /// The system shows only the leader of the group.
    Hidden,
}

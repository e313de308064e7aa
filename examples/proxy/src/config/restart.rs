//! The hand-over to a new process.

use serde::Deserialize;

use super::Seconds;

/// The hand-over to a new process, which SIGUSR2 begins.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Restart {
    /// The time a new process has to become ready. If it does not, it is ended, and the old process
    /// goes on.
    pub ready_within: Seconds,
    /// The longest time that the old process goes on answering connected clients, with `Connection:
    /// close`, before its shutdown begins.
    pub linger: Seconds,
}

impl Default for Restart {
    fn default() -> Self {
        Self {
            ready_within: Seconds::of(30),
            linger: Seconds::of(1),
        }
    }
}

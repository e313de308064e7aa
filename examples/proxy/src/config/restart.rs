//! The settings of a restart, in which the proxy hands over to a new process.

use serde::Deserialize;

use super::Seconds;

/// The settings of a restart, which the signal SIGUSR2 begins. The proxy then hands over to a new
/// process.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Restart {
    /// The time that a new process has to become ready. If the new process is not ready by then,
    /// the old process ends it and goes on.
    pub ready_within: Seconds,
    /// The longest time for which the old process still answers connected clients after the
    /// hand-over, with `Connection: close`. After that its shutdown begins.
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

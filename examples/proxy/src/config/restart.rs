//! How a new process takes over.

use serde::Deserialize;

use super::Seconds;

/// How a new process takes over, on SIGUSR2.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Restart {
    /// The new process has so many seconds until it is ready; it is ended if it is
    /// not, and nothing has changed.
    pub ready_within: Seconds,
    /// For so many seconds at most the old one goes on answering those who are
    /// connected to it, telling them to connect again, before its shutdown begins.
    pub linger: Seconds,
}

impl Default for Restart {
    fn default() -> Self {
        Self {
            ready_within: Seconds(30),
            linger: Seconds(1),
        }
    }
}

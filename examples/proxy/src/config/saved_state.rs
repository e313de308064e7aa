//! The settings of the files that the next process still needs: saved state and audit trail.

use std::path::PathBuf;

use serde::Deserialize;

use super::Seconds;

/// The settings of the state that is saved for the next start.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct State {
    /// The file for the state. `None` means that no state is saved.
    pub file: Option<PathBuf>,
    /// The interval between two saves, in seconds.
    pub every: Seconds,
}

impl Default for State {
    fn default() -> Self {
        Self {
            file: None,
            every: Seconds::of(30),
        }
    }
}

/// The settings of the audit trail, which records each shutdown.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Audit {
    /// The file to which the report of each shutdown is appended as a line of JSON. `None` means
    /// that nothing is recorded.
    pub path: Option<PathBuf>,
}

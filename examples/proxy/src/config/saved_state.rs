//! Files that outlive the process: saved state and audit trail.

use std::path::PathBuf;

use serde::Deserialize;

use super::Seconds;

/// The state that the next start restores.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct State {
    /// The file. Without one nothing is saved.
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

/// The audit trail of shutdowns.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Audit {
    /// The file that each shutdown's report is appended to, as a line of JSON. Without one nothing
    /// is recorded.
    pub path: Option<PathBuf>,
}

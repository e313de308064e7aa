//! What outlives the process.

use std::path::PathBuf;

use serde::Deserialize;

use super::Seconds;

/// What is known is kept for the next start.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct State {
    /// Where. Without a file nothing is kept.
    pub file: Option<PathBuf>,
    /// How often it is saved.
    pub every: Seconds,
}

impl Default for State {
    fn default() -> Self {
        Self {
            file: None,
            every: Seconds(30),
        }
    }
}

/// What is told of every shutdown.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Audit {
    /// The file that each report is appended to, as a line of JSON. Without one
    /// there is none.
    pub path: Option<PathBuf>,
}

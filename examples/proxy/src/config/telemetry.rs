//! Where numbers and the traffic tape are written.

use std::net::SocketAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use serde::Deserialize;

use super::bounds;

use super::admin;

/// The numbers, and the older way to say where they are served.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// Whether the admin listener is started.
    pub enabled: bool,
    /// Where that listens, unless `admin` says it.
    pub address: SocketAddr,
    /// Where the last values are saved, as JSON, when the proxy ends.
    pub file: Option<PathBuf>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            enabled: false,
            address: admin::ADDRESS,
            file: None,
        }
    }
}

/// The traffic tape.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Recorder {
    /// The file that is appended to, one JSON object a line. Without one,
    /// nothing is recorded.
    pub path: Option<PathBuf>,
    /// Entries that may wait for the disk; those beyond are dropped and counted.
    #[serde(deserialize_with = "bounds::positive::<_, _, 1000000>")]
    pub queue: NonZeroUsize,
    /// A file that would become longer is put aside, under its name and `.1`.
    /// Without a limit it only grows.
    #[serde(deserialize_with = "bounds::optional::<_, _, 1125899906842624>")]
    pub max_bytes: Option<NonZeroU64>,
    /// How many files are kept aside.
    #[serde(deserialize_with = "bounds::natural::<_, _, 1000>")]
    pub keep: u32,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            path: None,
            queue: const { NonZeroUsize::new(4096).unwrap() },
            max_bytes: None,
            keep: 5,
        }
    }
}

//! Files for metrics and the traffic tape.

use std::net::SocketAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use serde::Deserialize;

use super::bounds;

use super::admin;

/// The metrics, and the older fields of the admin listener.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// Whether to start the admin listener. An older name of `admin.enabled`.
    pub enabled: bool,
    /// The address of the admin listener, unless `admin.address` is set.
    pub address: SocketAddr,
    /// The file that the final numbers are saved to, as JSON.
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
    /// The file to append to, one JSON object a line. Without one nothing is recorded.
    pub path: Option<PathBuf>,
    /// The number of entries that may wait for the disk. Further ones are dropped and counted.
    #[serde(deserialize_with = "bounds::positive::<_, _, 1000000>")]
    pub queue: NonZeroUsize,
    /// The size at which the file is rotated to a name ending in `.1`. Without a limit it only
    /// grows.
    #[serde(deserialize_with = "bounds::optional::<_, _, 1125899906842624>")]
    pub max_bytes: Option<NonZeroU64>,
    /// The number of rotated files to keep.
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

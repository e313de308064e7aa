//! The settings of the metrics.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::admin;

/// The settings of the metrics, and older names for settings of the admin listener.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// Whether to start the admin listener. This is an older name of `admin.enabled`.
    pub enabled: bool,
    /// The address of the admin listener, unless `admin.address` is set.
    pub address: SocketAddr,
    /// The file to which the final numbers are saved as JSON. `None` means that they are not saved.
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

//! The metrics.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

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

//! The settings of WebSocket connections.

use serde::Deserialize;

use super::Seconds;

/// The settings of WebSocket connections.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct WebSocket {
    /// The time after which a silent client gets a ping, in seconds. If the client stays silent for
    /// the same time again, it is disconnected.
    pub ping: Seconds,
}

impl Default for WebSocket {
    fn default() -> Self {
        Self {
            ping: Seconds::of(30),
        }
    }
}

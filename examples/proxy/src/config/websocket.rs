//! WebSocket connections.

use serde::Deserialize;

use super::Seconds;

/// WebSocket connections.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct WebSocket {
    /// The time after which a silent client gets a ping. A client that stays silent for as long
    /// again is disconnected.
    pub ping: Seconds,
}

impl Default for WebSocket {
    fn default() -> Self {
        Self {
            ping: Seconds::of(30),
        }
    }
}

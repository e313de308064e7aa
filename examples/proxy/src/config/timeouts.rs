//! The settings of time limits, in whole seconds.

use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer};

use super::{LONGEST_SHUTDOWN, Seconds};

/// Time limits of connections and requests, each in whole seconds.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// The time limit of connecting to an upstream.
    pub connect: Seconds,
    /// The time limit from a client's connect to its first byte. The same limit holds from the
    /// first byte of a request to the end of its head.
    pub client_hello: Seconds,
    /// The longest time that a client connection may pass without a byte in either direction,
    /// during a request or between requests.
    pub idle: Seconds,
    /// The time limit from the last byte of a request to the head of the upstream's response.
    pub response: Seconds,
    /// The time for which an unused upstream connection is kept open.
    pub pool_idle: Seconds,
}

/// The longest interval that [`Timeouts::heartbeat`] returns.
const LONGEST_HEARTBEAT: Duration = Duration::from_secs(15);

impl Timeouts {
    /// Returns the interval of comments in a quiet stream of events. The comments keep the client's
    /// connection from reaching its time limit.
    #[must_use]
    pub fn heartbeat(&self) -> Duration {
        (self.idle.duration() / 2).min(LONGEST_HEARTBEAT)
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Seconds::of(10),
            client_hello: Seconds::of(10),
            idle: Seconds::of(60),
            response: Seconds::of(60),
            pool_idle: Seconds::of(30),
        }
    }
}

pub(super) fn shutdown_seconds<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Seconds, D::Error> {
    let seconds = Seconds::deserialize(deserializer)?;
    if seconds.duration() > LONGEST_SHUTDOWN {
        return Err(de::Error::custom("expected at most 3600 seconds"));
    }
    Ok(seconds)
}

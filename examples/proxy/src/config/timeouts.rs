//! Time limits, in whole seconds.

use std::num::NonZeroU64;
use std::time::Duration;

use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize};

use super::{LONGEST_SHUTDOWN, bounds};

/// Time limits of connections and requests, each in whole seconds.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// The time to connect to the upstream.
    pub connect: Seconds,
    /// The time from a client's connect to its first byte, and from a request's first byte to the
    /// end of its head.
    pub client_hello: Seconds,
    /// The time a client connection may go without a byte in either direction, between requests or
    /// within one.
    pub idle: Seconds,
    /// The time from the last byte of a request to the head of the upstream's response.
    pub response: Seconds,
    /// The time an unused upstream connection is kept.
    pub pool_idle: Seconds,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Seconds(10),
            client_hello: Seconds(10),
            idle: Seconds(60),
            response: Seconds(60),
            pool_idle: Seconds(30),
        }
    }
}

/// A whole number of seconds, from one second to a year.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Seconds(pub(super) u64);

impl Seconds {
    #[cfg(test)]
    pub(crate) const fn of(seconds: u64) -> Self {
        Self(seconds)
    }

    /// Converts the seconds to a `Duration`.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_secs(self.0)
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds: NonZeroU64 = bounds::positive::<_, _, A_YEAR>(deserializer)?;
        Ok(Self(seconds.get()))
    }
}

/// The longest time, in seconds.
const A_YEAR: u64 = 365 * 24 * 3600;

pub(super) fn shutdown_seconds<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Seconds, D::Error> {
    let seconds = Seconds::deserialize(deserializer)?;
    if seconds.duration() > LONGEST_SHUTDOWN {
        return Err(de::Error::custom("expected at most 3600 seconds"));
    }
    Ok(seconds)
}

//! Durations in whole seconds, as a configuration file has them.

use std::num::NonZeroU64;
use std::time::Duration;

use serde::de::Deserializer;
use serde::{Deserialize, Serialize};

use crate::bounds;

/// A whole number of seconds, from one second to one year.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Seconds(u64);

impl Seconds {
    /// Creates a duration of this many seconds.
    ///
    /// # Panics
    ///
    /// When `seconds` is 0 or more than a year.
    #[must_use]
    pub const fn of(seconds: u64) -> Self {
        assert!(
            seconds > 0 && seconds <= A_YEAR,
            "from one second to a year"
        );
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

/// The longest duration, in seconds.
const A_YEAR: u64 = 365 * 24 * 3600;

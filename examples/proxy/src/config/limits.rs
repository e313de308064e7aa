//! When a failing upstream is left alone, and when load is shed.

use std::num::NonZeroU32;

use serde::Deserialize;

use super::{Seconds, bounds};

/// When an upstream that fails is left alone.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Breaker {
    /// Failures in a row until it is.
    #[serde(deserialize_with = "bounds::positive::<_, _, 1000000>")]
    pub failures: NonZeroU32,
    /// For how long at first; the time doubles with each trial that fails.
    pub open: Seconds,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            failures: const { NonZeroU32::new(5).unwrap() },
            open: Seconds(2),
        }
    }
}

/// What the process may use. Above a soft limit connections are not kept for
/// another request, from the hard one on requests are refused.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Open file descriptors. Without limits, 85 and 95 % of what is allowed.
    pub open_files: Option<Bounds>,
    /// Resident memory, in MiB.
    pub memory_mib: Option<Bounds>,
    /// Tasks of the runtime.
    pub tasks: Option<Bounds>,
    /// Client connections.
    pub connections: Option<Bounds>,
    /// Sessions of clients, of all routes together.
    pub sessions: Option<Bounds>,
}

/// What a limit can be.
const MOST_OF_ANYTHING: u64 = 1_000_000_000_000;

/// Two limits of the same thing.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(try_from = "BoundsFields")]
pub struct Bounds {
    /// The lower one.
    pub soft: u64,
    /// The upper one.
    pub hard: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BoundsFields {
    soft: u64,
    hard: u64,
}

impl TryFrom<BoundsFields> for Bounds {
    type Error = &'static str;

    fn try_from(BoundsFields { soft, hard }: BoundsFields) -> Result<Self, Self::Error> {
        if soft == 0 || soft > hard {
            return Err("`soft` is at least 1 and at most `hard`");
        }
        if hard > MOST_OF_ANYTHING {
            return Err("`hard` is at most 1000000000000");
        }
        Ok(Self { soft, hard })
    }
}

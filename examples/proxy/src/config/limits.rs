//! The circuit breaker, and the limits at which load is shed.

use std::num::NonZeroU32;

use lifecycle_proxy_common::bounds;
use serde::Deserialize;

use super::Seconds;

/// The circuit breaker of upstreams.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Breaker {
    /// The number of failures in a row that open the breaker.
    #[serde(deserialize_with = "bounds::positive::<_, _, 1000000>")]
    pub failures: NonZeroU32,
    /// The time the breaker stays open at first. It doubles with each failed trial.
    pub open: Seconds,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            failures: const { NonZeroU32::new(5).unwrap() },
            open: Seconds::of(2),
        }
    }
}

/// Limits of what the process may use. From a soft limit on, connections are closed after their
/// request; from a hard limit on, requests are refused.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Open file descriptors. The defaults are 85 and 95 % of what the process may open.
    pub open_files: Option<Bounds>,
    /// Resident memory, in MiB.
    pub memory_mib: Option<Bounds>,
    /// Tasks of the runtime.
    pub tasks: Option<Bounds>,
    /// Client connections.
    pub connections: Option<Bounds>,
    /// Client sessions, summed over all routes.
    pub sessions: Option<Bounds>,
}

/// The upper bound of every limit.
const MOST_OF_ANYTHING: u64 = 1_000_000_000_000;

/// A soft and a hard limit of the same measure.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(try_from = "BoundsFields")]
pub struct Bounds {
    /// The soft limit.
    pub soft: u64,
    /// The hard limit.
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

//! The settings of the circuit breaker, and the limits from which on the proxy is overloaded.

use std::num::NonZeroU32;

use lifecycle_proxy_common::bounds;
use serde::Deserialize;

use super::Seconds;

/// The settings of the circuit breaker of each upstream.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Breaker {
    /// The number of failures in a row that open the breaker.
    #[serde(deserialize_with = "bounds::positive::<_, _, 1000000>")]
    pub failures: NonZeroU32,
    /// The time that the breaker stays open at first, in seconds. The time doubles after each
    /// failed trial.
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

/// Limits of the resources that the process may use. From a soft limit on, the proxy closes each
/// connection after its current request. From a hard limit on, the proxy refuses requests.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Limits of open file descriptors. The defaults are 85 % and 95 % of the number that the
    /// process may open.
    pub open_files: Option<Bounds>,
    /// Limits of resident memory, in MiB.
    pub memory_mib: Option<Bounds>,
    /// Limits of the number of the runtime's tasks.
    pub tasks: Option<Bounds>,
    /// Limits of the number of client connections.
    pub connections: Option<Bounds>,
    /// Limits of the number of client sessions, summed over all routes.
    pub sessions: Option<Bounds>,
}

/// The largest value that a limit may have.
const MOST_OF_ANYTHING: u64 = 1_000_000_000_000;

/// A soft and a hard limit of the same resource.
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

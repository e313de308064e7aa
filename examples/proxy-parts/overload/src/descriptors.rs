//! File descriptors, and the number of connections that they allow.

use std::num::NonZeroUsize;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{info, warn};

/// The number of descriptors that are not for connections, but for standard streams, listeners, the
/// event loop, files and name resolution.
const RESERVE: u64 = 32;

/// The number of descriptors that another tokio runtime takes: for its events twice, for wakes and
/// for signals.
const RUNTIME: u64 = 4;

/// The descriptors that a server takes.
#[derive(Clone, Copy, Debug)]
pub struct Need {
    /// The number of descriptors for each connection.
    pub each: u64,
    /// The number of tokio runtimes, besides the first.
    pub runtimes: usize,
}

/// Returns the number of possible connections, at most `wanted`, if the server takes as many
/// descriptors as `need` says. Raises the soft limit of open files as far as the hard limit allows.
#[must_use]
pub fn connections(wanted: NonZeroUsize, need: Need) -> NonZeroUsize {
    let needed = need.total(wanted);
    let limit = getrlimit(Resource::Nofile);
    let available = available(&limit, needed);
    if available > limit.current.unwrap_or(u64::MAX) {
        let raised = Rlimit {
            current: Some(available),
            ..limit
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            warn!(%error, "the limit of open files could not be raised");
            return clamp(wanted, need, limit.current);
        }
    }
    clamp(wanted, need, Some(available))
}

/// Returns the number of descriptors that this process may have open. `None` means that there is no
/// limit.
#[must_use]
pub fn allowed() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

fn clamp(wanted: NonZeroUsize, need: Need, available: Option<u64>) -> NonZeroUsize {
    let possible = need.possible(wanted, available);
    if possible < wanted {
        warn!(
            max_connections = possible,
            configured = wanted,
            open_files = available,
            advice = advice(possible, need.total(wanted)),
            "too few open files: `max_connections` lowered"
        );
    } else {
        info!(
            max_connections = possible,
            open_files = available,
            "connection limit set"
        );
    }
    possible
}

/// Returns the advice to log when the limit of open files is lower than `needed`.
fn advice(possible: NonZeroUsize, needed: u64) -> String {
    format!(
        "allow {needed} (systemd: LimitNOFILE={needed}, containers: --ulimit nofile={needed}, \
         root's shell: ulimit -n {needed}) or set `max_connections: {possible}`"
    )
}

impl Need {
    /// Returns the number of descriptors that this number of connections needs.
    fn total(self, connections: NonZeroUsize) -> u64 {
        (connections.get() as u64)
            .saturating_mul(self.each)
            .saturating_add(self.besides())
    }

    /// Returns the number of connections that `available` descriptors allow, at most `wanted`.
    fn possible(self, wanted: NonZeroUsize, available: Option<u64>) -> NonZeroUsize {
        let left = available.unwrap_or(u64::MAX).saturating_sub(self.besides());
        let connections = usize::try_from(left / self.each).unwrap_or(usize::MAX);
        NonZeroUsize::new(connections).map_or(NonZeroUsize::MIN, |possible| possible.min(wanted))
    }

    /// Returns the number of descriptors that are not for connections.
    const fn besides(self) -> u64 {
        RESERVE + RUNTIME * self.runtimes as u64
    }
}

fn available(limit: &Rlimit, needed: u64) -> u64 {
    let soft = limit.current.unwrap_or(u64::MAX);
    let hard = limit.maximum.unwrap_or(u64::MAX);
    soft.max(needed.min(hard))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(number: usize) -> NonZeroUsize {
        NonZeroUsize::new(number).unwrap()
    }

    fn need(each: u64) -> Need {
        Need { each, runtimes: 0 }
    }

    #[test]
    fn the_soft_limit_rises_as_far_as_needed_and_allowed() {
        let limit = |current, maximum| Rlimit { current, maximum };
        assert_eq!(available(&limit(Some(1024), Some(4096)), 2032), 2032);
        assert_eq!(available(&limit(Some(1024), Some(1500)), 2032), 1500);
        assert_eq!(available(&limit(Some(1024), None), 20_032), 20_032);
        assert_eq!(available(&limit(Some(1024), Some(4096)), 100), 1024);
        assert_eq!(available(&limit(None, None), 100), u64::MAX);
    }

    #[test]
    fn the_warning_says_which_limit_to_raise_and_to_what() {
        let advice = advice(count(6656), need(3).total(count(10_000)));
        for part in [
            "LimitNOFILE=30032",
            "--ulimit nofile=30032",
            "ulimit -n 30032",
            "`max_connections: 6656`",
        ] {
            assert!(advice.contains(part), "{part}: {advice}");
        }
    }

    #[test]
    fn too_few_descriptors_lower_the_limit_to_what_they_serve() {
        assert_eq!(need(2).possible(count(100), Some(1024)), count(100));
        assert_eq!(need(2).possible(count(10_000), Some(64)), count(16));
        assert_eq!(need(2).possible(count(10_000), Some(3)), count(1));
        assert_eq!(need(2).possible(count(5), None), count(5));
        let with_runtimes = Need {
            each: 2,
            runtimes: 2,
        };
        assert_eq!(with_runtimes.possible(count(10_000), Some(64)), count(12));
    }
}

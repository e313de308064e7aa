//! File descriptors, and the number of connections that they allow.

use std::num::NonZeroUsize;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{info, warn};

/// The number of descriptors that are not for connections, but for standard streams, listeners, the
/// event loop, files and name resolution.
const RESERVE: u64 = 32;

/// Returns the number of possible connections, at most `wanted`, if each connection takes `each`
/// descriptors. Raises the soft limit of open files as far as the hard limit allows.
#[must_use]
pub fn connections(wanted: NonZeroUsize, each: u64) -> NonZeroUsize {
    let needed = needed(wanted, each);
    let limit = getrlimit(Resource::Nofile);
    let available = available(&limit, needed);
    if available > limit.current.unwrap_or(u64::MAX) {
        let raised = Rlimit {
            current: Some(available),
            ..limit
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            warn!(%error, "the limit of open files could not be raised");
            return clamp(wanted, each, limit.current);
        }
    }
    clamp(wanted, each, Some(available))
}

/// Returns the number of descriptors that this process may have open. `None` means that there is no
/// limit.
#[must_use]
pub fn allowed() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

fn clamp(wanted: NonZeroUsize, each: u64, available: Option<u64>) -> NonZeroUsize {
    let possible = possible(wanted, each, available);
    if possible < wanted {
        warn!(
            max_connections = possible,
            configured = wanted,
            open_files = available,
            advice = advice(possible, needed(wanted, each)),
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

fn needed(wanted: NonZeroUsize, each: u64) -> u64 {
    (wanted.get() as u64)
        .saturating_mul(each)
        .saturating_add(RESERVE)
}

fn available(limit: &Rlimit, needed: u64) -> u64 {
    let soft = limit.current.unwrap_or(u64::MAX);
    let hard = limit.maximum.unwrap_or(u64::MAX);
    soft.max(needed.min(hard))
}

fn possible(wanted: NonZeroUsize, each: u64, available: Option<u64>) -> NonZeroUsize {
    let connections = available.unwrap_or(u64::MAX).saturating_sub(RESERVE) / each;
    let connections = usize::try_from(connections).unwrap_or(usize::MAX);
    NonZeroUsize::new(connections).map_or(NonZeroUsize::MIN, |possible| possible.min(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(number: usize) -> NonZeroUsize {
        NonZeroUsize::new(number).unwrap()
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
        let advice = advice(count(6656), needed(count(10_000), 3));
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
        assert_eq!(possible(count(100), 2, Some(1024)), count(100));
        assert_eq!(possible(count(10_000), 2, Some(64)), count(16));
        assert_eq!(possible(count(10_000), 2, Some(3)), count(1));
        assert_eq!(possible(count(5), 2, None), count(5));
    }
}

//! The resources whose use is the load of the proxy, and their limits.

use lifecycle_proxy_common::Used;
use lifecycle_proxy_overload::descriptors;
use lifecycle_proxy_overload::load::{Bounds, Counted, Each};
use lifecycle_proxy_sessions::SessionCount;
use lifecycle_runtime::Connections;
use tokio::runtime::Handle;

use crate::config;

/// Returns the configured limits. The default limits of open files are 85 % and 95 % of the number
/// that the process may open.
pub(super) fn bounds_of(limits: &config::Limits) -> Each<Bounds> {
    let bounds = |given: Option<config::Bounds>, unit: u64, default: Bounds| {
        given.map_or(default, |config::Bounds { soft, hard }| Bounds {
            soft: soft.saturating_mul(unit),
            hard: hard.saturating_mul(unit),
        })
    };
    let files = descriptors::allowed().map_or(Bounds::NONE, |most| Bounds {
        soft: most.saturating_mul(85) / 100,
        hard: most.saturating_mul(95) / 100,
    });
    [
        bounds(limits.open_files, 1, files),
        bounds(limits.memory_mib, 1 << 20, Bounds::NONE),
        bounds(limits.tasks, 1, Bounds::NONE),
        bounds(limits.connections, 1, Bounds::NONE),
        bounds(limits.sessions, 1, Bounds::NONE),
    ]
}

/// Returns the counters that the load reads from other parts: of the tasks of this runtime and of
/// `runtimes`, of connections and of sessions.
pub(super) fn counted(
    runtimes: &[Handle],
    connections: &Connections,
    sessions: &SessionCount,
) -> Counted {
    let (acceptor, sessions) = (connections.acceptor(), sessions.clone());
    let current = Handle::current();
    Counted {
        runtimes: std::iter::once(&current).chain(runtimes).cloned().collect(),
        connections: Box::new(move || {
            let stats = acceptor.stats();
            Used {
                active: stats.active as u64,
                peak: stats.peak as u64,
            }
        }),
        sessions: Box::new(move || sessions.used()),
    }
}

//! The pool of gates' cores: a gate takes a core from the pool, and gives it back when it is dropped and drained.
//!
//! A pass may refer to its core for any time, and does so without a reference count, which threads would share as a
//! cache line. So cores are `'static` and reused: there are as many cores as there were gates at the same time, at
//! most.

use super::core::Core;

#[cfg(not(lifecycle_loom))]
mod real {
    use std::sync::{Mutex, MutexGuard, PoisonError};
    use std::thread;

    use super::Core;

    /// The largest number of shards that a core has. More shards are no faster, and `in_flight` reads them all.
    const MOST: usize = 64;

    static FREE: Mutex<Vec<&'static Core>> = Mutex::new(Vec::new());

    fn free() -> MutexGuard<'static, Vec<&'static Core>> {
        FREE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::gate) fn take() -> &'static Core {
        let used = free().pop();
        match used {
            Some(core) => {
                core.reopen();
                core
            }
            None => {
                let threads = thread::available_parallelism().map_or(1, usize::from);
                // There are twice as many shards as processor cores, so that few threads share a shard by chance.
                let shards = (threads * 2).next_power_of_two().min(MOST);
                Box::leak(Box::new(Core::new(shards)))
            }
        }
    }

    pub(in crate::gate) fn give_back(core: &'static Core) {
        free().push(core);
    }
}

#[cfg(not(lifecycle_loom))]
pub(super) use real::{give_back, take};

/// Leaks a new core for each gate in a loom test. A pool in a static would outlive the test's single execution.
#[cfg(lifecycle_loom)]
pub(super) fn take() -> &'static Core {
    Box::leak(Box::new(Core::new(2)))
}

#[cfg(lifecycle_loom)]
pub(super) fn give_back(core: &'static Core) {
    core.given_back();
}

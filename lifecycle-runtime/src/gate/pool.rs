//! The pool of cores.
//!
//! A pass may refer to its core for any time without counting references on a shared cache line. So cores are
//! `'static` and reused: as many exist as there ever were gates at one time.

use super::core::Core;

#[cfg(not(lifecycle_loom))]
mod real {
    use std::sync::{Mutex, MutexGuard, PoisonError};
    use std::thread;

    use super::Core;

    /// The most shards a core has. More are no faster, and `in_flight` reads them all.
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
                // Twice as many shards as processor cores, so that few threads share one by chance.
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

/// Leaks a core for each gate of a model, since statics outlive a model.
#[cfg(lifecycle_loom)]
pub(super) fn take() -> &'static Core {
    Box::leak(Box::new(Core::new(2)))
}

#[cfg(lifecycle_loom)]
pub(super) fn give_back(core: &'static Core) {
    core.given_back();
}

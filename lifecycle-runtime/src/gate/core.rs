//! The words of a gate, and who is woken. The invariants are those of [`super`].

use std::future::Future;

use super::sync::{AtomicBool, AtomicUsize, Notify, Ordering, shard_of_thread};
use super::{Closed, pool};

/// The shard admits nobody.
const CLOSED: usize = 1;
/// It was closed and empty, and told so.
const TAKEN: usize = 2;
/// One pass.
const PASS: usize = 4;

/// In `remaining`: the gate is gone.
const ABANDONED: usize = 1 << (usize::BITS - 1);

/// A word on two cache lines of its own, since neighbours are fetched in pairs.
#[repr(align(128))]
pub(super) struct Shard(AtomicUsize);

/// What every entrant reads, on cache lines that nobody writes before the close: waiters write to their neighbours.
#[repr(align(128))]
struct Door {
    shards: Box<[Shard]>,
    closed: AtomicBool,
}

pub(super) struct Core {
    door: Door,
    /// Shards that are not taken, and `ABANDONED`: in one word, so that one operation sees both.
    remaining: AtomicUsize,
    closed: Notify,
    drained: Notify,
    #[cfg(lifecycle_loom)]
    pub(super) recycled: AtomicUsize,
}

impl Core {
    pub(super) fn new(shards: usize) -> Self {
        Self {
            door: Door {
                shards: (0..shards).map(|_| Shard(AtomicUsize::new(0))).collect(),
                closed: AtomicBool::new(false),
            },
            remaining: AtomicUsize::new(shards),
            closed: Notify::new(),
            drained: Notify::new(),
            #[cfg(lifecycle_loom)]
            recycled: AtomicUsize::new(0),
        }
    }

    /// Opens a drained core for another gate. Nobody else knows it (7).
    pub(super) fn reopen(&self) {
        for shard in &self.door.shards {
            // Relaxed: who gets the core from the pool is synchronised with this by the pool's lock.
            shard.0.store(0, Ordering::Relaxed);
        }
        self.remaining
            .store(self.door.shards.len(), Ordering::Relaxed);
        self.door.closed.store(false, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn enter(&'static self) -> Result<&'static Shard, Closed> {
        // Invariant 6. Relaxed: the addition decides.
        if self.door.closed.load(Ordering::Relaxed) {
            return Err(Closed);
        }
        let shards = &self.door.shards;
        // Their number is a power of two.
        let shard = &shards[shard_of_thread() & (shards.len() - 1)];
        // Invariant 1. Acquire: who is refused sees what the closer did before. Who is admitted orders
        // nothing by it.
        if shard.0.fetch_add(PASS, Ordering::Acquire) & CLOSED == 0 {
            Ok(shard)
        } else {
            self.leave(shard);
            Err(Closed)
        }
    }

    /// For somebody who is inside already.
    #[inline]
    pub(super) fn enter_again(&'static self, shard: &'static Shard) {
        // Invariant 1. Relaxed: as with a reference count, who has one orders nothing by another.
        shard.0.fetch_add(PASS, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn leave(&'static self, shard: &'static Shard) {
        // Release: what was done under the pass happens before the gate is drained; acquire, for the one
        // that empties the shard, takes over the others'.
        let before = shard.0.fetch_sub(PASS, Ordering::AcqRel);
        // Invariant 5.
        if before == PASS | CLOSED {
            self.take(shard);
        }
    }

    /// Invariant 3.
    #[cold]
    fn take(&'static self, shard: &'static Shard) {
        let taken = shard.0.compare_exchange(
            CLOSED,
            CLOSED | TAKEN,
            // As in `leave`: all who left this shard happen before what follows.
            Ordering::AcqRel,
            // Somebody is inside again, to be refused; it will come here when it leaves.
            Ordering::Relaxed,
        );
        if taken.is_err() {
            return;
        }
        // AcqRel: the last of the shards takes over what all others saw.
        let before = self.remaining.fetch_sub(1, Ordering::AcqRel);
        if before & !ABANDONED == 1 {
            // By now another gate may have the core; its waiters look again.
            self.drained.notify_waiters();
            // Invariant 7.
            if before & ABANDONED != 0 {
                pool::give_back(self);
            }
        }
    }

    /// Invariant 2. Any number of closers may run; each marks every shard.
    pub(super) fn close(&'static self) {
        // Release pairs with `is_closed`.
        self.door.closed.store(true, Ordering::Release);
        for shard in &self.door.shards {
            // Release, for who is refused; acquire, for an empty shard's past passes.
            let before = shard.0.fetch_or(CLOSED, Ordering::AcqRel);
            if before == 0 {
                self.take(shard);
            }
        }
        self.closed.notify_waiters();
    }

    #[inline]
    pub(super) fn is_closed(&self) -> bool {
        self.door.closed.load(Ordering::Acquire)
    }

    pub(super) fn is_drained(&self) -> bool {
        // Acquire: what was done under any pass happens before.
        self.remaining.load(Ordering::Acquire) & !ABANDONED == 0
    }

    pub(super) fn in_flight(&self) -> usize {
        self.door
            .shards
            .iter()
            .map(|shard| shard.0.load(Ordering::Relaxed) / PASS)
            .sum()
    }

    // Not `async`: a future around the future is memory in every task that waits.
    pub(super) fn closed(&self) -> impl Future<Output = ()> + Send {
        until(&self.closed, || self.is_closed())
    }

    pub(super) fn drained(&self) -> impl Future<Output = ()> + Send {
        until(&self.drained, || self.is_drained())
    }

    /// The last gate is gone.
    pub(super) fn abandon(&'static self) {
        // Invariant 7. AcqRel: the core's next gate comes after all of this one.
        if self.remaining.fetch_or(ABANDONED, Ordering::AcqRel) == 0 {
            pool::give_back(self);
        }
    }

    /// Whether the core is free for another gate, in a model that has no pool.
    #[cfg(lifecycle_loom)]
    pub(super) fn given_back(&'static self) {
        assert!(self.is_drained());
        let before = self.recycled.fetch_add(1, Ordering::SeqCst);
        assert_eq!(before, 0, "given back twice");
    }
}

/// Waits for `done`, which `notify` tells of. It looks again after each telling, since one may come late and
/// be about the gate that had this core before.
async fn until(notify: &Notify, done: impl Fn() -> bool) {
    loop {
        // Asked before looking: it counts every `notify_waiters` from here on.
        let notified = notify.notified();
        if done() {
            return;
        }
        notified.await;
        // Mostly so; if not, it asks before it looks again.
        if done() {
            return;
        }
    }
}

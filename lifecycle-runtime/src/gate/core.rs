//! The shared atomic words of a gate, and the wake-ups of its waiters. The numbered invariants are listed in [`super`].

use std::future::Future;

use super::sync::{AtomicBool, AtomicUsize, Notify, Ordering, shard_of_thread};
use super::{Closed, pool};

/// The mark in a shard's word: the shard is closed.
const CLOSED: usize = 1;
/// The mark in a shard's word: the shard was closed and empty, and one was subtracted from `remaining` for it.
const TAKEN: usize = 2;
/// The number that one pass adds to a shard's word. The two lowest bits are left to the marks.
const PASS: usize = 4;

/// The mark in `remaining`: the last clone of the gate is dropped.
const ABANDONED: usize = 1 << (usize::BITS - 1);

/// A shard: a word on two cache lines of its own, since processors fetch adjacent lines in pairs.
#[repr(align(128))]
pub(super) struct Shard(AtomicUsize);

/// The fields that every thread reads when it enters. They are on cache lines of their own, since waiters write to the
/// other fields of `Core`.
#[repr(align(128))]
struct Door {
    shards: Box<[Shard]>,
    closed: AtomicBool,
}

pub(super) struct Core {
    door: Door,
    /// The number of shards that are not taken, and the mark `ABANDONED`. Both are in one word, so that one operation
    /// sees both.
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

    /// Reopens a drained core for another gate. By invariant 7 of `gate.rs` no other thread refers to the core.
    pub(super) fn reopen(&self) {
        for shard in &self.door.shards {
            // Relaxed is enough: the pool's lock orders this store before whatever the next user of the core does.
            shard.0.store(0, Ordering::Relaxed);
        }
        self.remaining
            .store(self.door.shards.len(), Ordering::Relaxed);
        self.door.closed.store(false, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn enter(&'static self) -> Result<&'static Shard, Closed> {
        // Invariant 6: the door's mark is read before the addition. Relaxed is enough, because the addition below
        // decides.
        if self.door.closed.load(Ordering::Relaxed) {
            return Err(Closed);
        }
        let shards = &self.door.shards;
        // The mask selects one shard, because the number of shards is a power of two.
        let shard = &shards[shard_of_thread() & (shards.len() - 1)];
        // Invariant 1: the value that the addition returns decides. With Acquire, a refused thread sees what the
        // closing thread did before it closed. An admitted thread relies on no order.
        if shard.0.fetch_add(PASS, Ordering::Acquire) & CLOSED == 0 {
            Ok(shard)
        } else {
            self.leave(shard);
            Err(Closed)
        }
    }

    /// Counts a clone of a pass that has not been dropped.
    #[inline]
    pub(super) fn enter_again(&'static self, shard: &'static Shard) {
        // Invariant 1: a clone is added to the same shard, closed or not. Relaxed is enough, like in `Arc::clone`: the
        // caller already holds a pass.
        shard.0.fetch_add(PASS, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn leave(&'static self, shard: &'static Shard) {
        // Release means that what was done while the pass was held happens before the gate is drained. Acquire means
        // that the thread that empties the shard sees what other threads did while they held passes of this shard.
        let before = shard.0.fetch_sub(PASS, Ordering::AcqRel);
        // Invariant 5: only the thread that emptied a closed shard goes on to touch the core.
        if before == PASS | CLOSED {
            self.take(shard);
        }
    }

    /// Takes a shard, if it is closed and empty (invariant 3: each shard is taken once).
    #[cold]
    fn take(&'static self, shard: &'static Shard) {
        let taken = shard.0.compare_exchange(
            CLOSED,
            CLOSED | TAKEN,
            // Acquire, like in `leave`: whatever was done under the passes of this shard happens before what follows.
            Ordering::AcqRel,
            // This ordering is for a failure: another thread has just added to the shard. That thread will be refused,
            // and calls `take` when it undoes its addition.
            Ordering::Relaxed,
        );
        if taken.is_err() {
            return;
        }
        // AcqRel means that the thread that takes the last shard sees everything that the takers of the other shards
        // saw.
        let before = self.remaining.fetch_sub(1, Ordering::AcqRel);
        if before & !ABANDONED == 1 {
            // The core may have been given to another gate by now. That gate's waiters check their condition again, so
            // this wake-up is harmless to them.
            self.drained.notify_waiters();
            // Invariant 7: the gate is dropped and its core is drained, so the core goes back to the pool.
            if before & ABANDONED != 0 {
                pool::give_back(self);
            }
        }
    }

    /// Closes the gate by marking the door and then every shard (invariant 2). Several threads may close the gate at
    /// the same time; each of them marks every shard.
    pub(super) fn close(&'static self) {
        // This Release pairs with the Acquire in `is_closed`.
        self.door.closed.store(true, Ordering::Release);
        for shard in &self.door.shards {
            // Release is for the threads that are refused: they see what this thread did before. Acquire is for a shard
            // that is already empty: this thread sees what was done under its earlier passes.
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
        // Acquire means that what was done under any pass happens before this function returns true.
        self.remaining.load(Ordering::Acquire) & !ABANDONED == 0
    }

    pub(super) fn in_flight(&self) -> usize {
        self.door
            .shards
            .iter()
            .map(|shard| shard.0.load(Ordering::Relaxed) / PASS)
            .sum()
    }

    // This is not an `async` function. The compiler would then wrap the future in another one, and each waiting task
    // would need more memory.
    pub(super) fn closed(&self) -> impl Future<Output = ()> + Send {
        until(&self.closed, || self.is_closed())
    }

    pub(super) fn drained(&self) -> impl Future<Output = ()> + Send {
        until(&self.drained, || self.is_drained())
    }

    /// Records that the last clone of the gate is dropped.
    pub(super) fn abandon(&'static self) {
        // Invariant 7: if the core is already drained, it goes back to the pool here. With AcqRel, the core's next gate
        // comes after everything that this gate did.
        if self.remaining.fetch_or(ABANDONED, Ordering::AcqRel) == 0 {
            pool::give_back(self);
        }
    }

    /// Records that the core is free for another gate. Under loom this counter takes the place of the pool.
    #[cfg(lifecycle_loom)]
    pub(super) fn given_back(&'static self) {
        assert!(self.is_drained());
        let before = self.recycled.fetch_add(1, Ordering::SeqCst);
        assert_eq!(before, 0, "given back twice");
    }
}

/// Waits until `done` returns true, checking again after each wake-up of `notify`. A wake-up may come late, and may
/// have been meant for the gate that used this core before.
async fn until(notify: &Notify, done: impl Fn() -> bool) {
    loop {
        // The future is created before the check, so that it misses no `notify_waiters` in between.
        let notified = notify.notified();
        if done() {
            return;
        }
        notified.await;
        // Usually `done` returns true by now. If not, the loop registers for the next wake-up before it checks again.
        if done() {
            return;
        }
    }
}

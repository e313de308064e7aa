//! The shared words of a gate, and the wake-ups of its waiters. The invariants are those of [`super`].

use std::future::Future;

use super::sync::{AtomicBool, AtomicUsize, Notify, Ordering, shard_of_thread};
use super::{Closed, pool};

/// Mark: the shard is closed.
const CLOSED: usize = 1;
/// Mark: the shard was closed and empty, and has been subtracted from `remaining`.
const TAKEN: usize = 2;
/// The unit in which passes are counted, above the two marks.
const PASS: usize = 4;

/// Mark in `remaining`: the gate is gone.
const ABANDONED: usize = 1 << (usize::BITS - 1);

/// A word on two cache lines of its own, since processors fetch adjacent lines in pairs.
#[repr(align(128))]
pub(super) struct Shard(AtomicUsize);

/// The fields that every entrant reads. They are on cache lines of their own, since waiters write to the other fields
/// of `Core`.
#[repr(align(128))]
struct Door {
    shards: Box<[Shard]>,
    closed: AtomicBool,
}

pub(super) struct Core {
    door: Door,
    /// The number of shards that are not taken, and the mark `ABANDONED`. One word, so that one operation sees both.
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

    /// Reopens a drained core for another gate. No other thread refers to it (7).
    pub(super) fn reopen(&self) {
        for shard in &self.door.shards {
            // Relaxed: the pool's lock orders this before the next user of the core.
            shard.0.store(0, Ordering::Relaxed);
        }
        self.remaining
            .store(self.door.shards.len(), Ordering::Relaxed);
        self.door.closed.store(false, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn enter(&'static self) -> Result<&'static Shard, Closed> {
        // Invariant 6. Relaxed: the addition below decides.
        if self.door.closed.load(Ordering::Relaxed) {
            return Err(Closed);
        }
        let shards = &self.door.shards;
        // The number of shards is a power of two.
        let shard = &shards[shard_of_thread() & (shards.len() - 1)];
        // Invariant 1. Acquire: a refused entrant sees what the closing thread did before. An admitted one relies on
        // no order.
        if shard.0.fetch_add(PASS, Ordering::Acquire) & CLOSED == 0 {
            Ok(shard)
        } else {
            self.leave(shard);
            Err(Closed)
        }
    }

    /// Adds a clone of a pass that has not left.
    #[inline]
    pub(super) fn enter_again(&'static self, shard: &'static Shard) {
        // Invariant 1. Relaxed, like `Arc::clone`: the holder already has a pass.
        shard.0.fetch_add(PASS, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn leave(&'static self, shard: &'static Shard) {
        // Release: what was done under the pass happens before the gate is drained. Acquire: the thread that empties
        // the shard sees what the others did under theirs.
        let before = shard.0.fetch_sub(PASS, Ordering::AcqRel);
        // Invariant 5.
        if before == PASS | CLOSED {
            self.take(shard);
        }
    }

    /// Takes a shard that is closed and empty (invariant 3).
    #[cold]
    fn take(&'static self, shard: &'static Shard) {
        let taken = shard.0.compare_exchange(
            CLOSED,
            CLOSED | TAKEN,
            // Acquire, like in `leave`: all passes that left this shard happen before what follows.
            Ordering::AcqRel,
            // Another entrant was just added. It will be refused, and call `take` when it leaves.
            Ordering::Relaxed,
        );
        if taken.is_err() {
            return;
        }
        // AcqRel: the thread that takes the last shard sees what all others saw.
        let before = self.remaining.fetch_sub(1, Ordering::AcqRel);
        if before & !ABANDONED == 1 {
            // Another gate may use the core by now. Its waiters check again, so this wake-up is harmless to them.
            self.drained.notify_waiters();
            // Invariant 7.
            if before & ABANDONED != 0 {
                pool::give_back(self);
            }
        }
    }

    /// Closes the gate (invariant 2). Several threads may close at once; each marks every shard.
    pub(super) fn close(&'static self) {
        // Release pairs with `is_closed`.
        self.door.closed.store(true, Ordering::Release);
        for shard in &self.door.shards {
            // Release for refused entrants; acquire for the earlier passes of a shard that is empty.
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
        // Acquire: what was done under any pass happens before this.
        self.remaining.load(Ordering::Acquire) & !ABANDONED == 0
    }

    pub(super) fn in_flight(&self) -> usize {
        self.door
            .shards
            .iter()
            .map(|shard| shard.0.load(Ordering::Relaxed) / PASS)
            .sum()
    }

    // A plain function: an `async` one would wrap the future in another one, which costs memory in every waiting task.
    pub(super) fn closed(&self) -> impl Future<Output = ()> + Send {
        until(&self.closed, || self.is_closed())
    }

    pub(super) fn drained(&self) -> impl Future<Output = ()> + Send {
        until(&self.drained, || self.is_drained())
    }

    /// Records that the last gate is gone.
    pub(super) fn abandon(&'static self) {
        // Invariant 7. AcqRel: the core's next gate comes after everything of this one.
        if self.remaining.fetch_or(ABANDONED, Ordering::AcqRel) == 0 {
            pool::give_back(self);
        }
    }

    /// Records that the core is free for another gate. Stands for the pool in models.
    #[cfg(lifecycle_loom)]
    pub(super) fn given_back(&'static self) {
        assert!(self.is_drained());
        let before = self.recycled.fetch_add(1, Ordering::SeqCst);
        assert_eq!(before, 0, "given back twice");
    }
}

/// Waits until `done` returns true, checking again after each wake-up of `notify`. A wake-up may come late, and
/// belong to the gate that used this core before.
async fn until(notify: &Notify, done: impl Fn() -> bool) {
    loop {
        // Created before the check, so that no `notify_waiters` in between is missed.
        let notified = notify.notified();
        if done() {
            return;
        }
        notified.await;
        // Usually done by now. Otherwise register for the next wake-up before checking again.
        if done() {
            return;
        }
    }
}

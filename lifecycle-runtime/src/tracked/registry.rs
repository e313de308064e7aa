//! The registry of tracked tasks: the owner's data about each task, its start, and the handle that aborts it.
//!
//! The code cites these invariants by number:
//!
//! 1. Slots are reused; a new `generation` makes the ids of a slot's earlier tasks invalid.
//! 2. `abort` sets `aborting` before it visits any slot, and `set_handle` reads `aborting` after it stored the handle
//!    in the slot. So a task that is spawned meanwhile is aborted by `abort` or by `set_handle`.
//! 3. No lock is held while foreign code is called or dropped, such as a name or a task's handle. On a runtime that is
//!    shutting down, aborting a task drops its future at once, and that drop takes the lock to free the task's slot.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::Instant;

/// The number of shards, a power of two: few enough that a search may visit all of them, enough that two threads seldom
/// need the same one.
const SHARDS: u32 = 8;
/// The number of tasks that a thread adds to one shard before it moves to the next. Tasks are woken in the order in
/// which they were spawned, and run in batches. So a thread that ends one task usually ends the tasks spawned next to
/// it too, and finds their shard in its cache.
const RUN: u32 = 64;
/// A shard with more slots than this frees its memory once all its slots are empty.
const KEPT: usize = 1024;

pub(super) struct Registry<T> {
    shards: [Shard<T>; SHARDS as usize],
    aborting: AtomicBool,
}

/// A shard on two cache lines of its own, since processors fetch adjacent lines in pairs.
#[repr(align(128))]
struct Shard<T>(Mutex<Slots<T>>);

struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    generation: u32,
}

struct Slot<T> {
    generation: u32,
    task: Option<Task<T>>,
}

struct Task<T> {
    what: T,
    since: Instant,
    /// The handle that aborts the task. `None` until the task is spawned, which happens after its slot is taken.
    join: Option<JoinHandle<()>>,
}

/// The id of a task in the registry: its slot, and the slot's generation while the task is in it.
#[derive(Clone, Copy)]
pub(super) struct SlotId {
    /// The index of the slot, times `SHARDS`, plus the shard.
    slot: u32,
    generation: u32,
}

thread_local! {
    /// The number of tasks that this thread has spawned, plus a start value. The start values of threads differ, so
    /// that threads begin at different shards.
    static SPAWNED: Cell<u32> = {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Cell::new(NEXT.fetch_add(RUN, Ordering::Relaxed))
    };
}

fn shard_of_next() -> u32 {
    let count = SPAWNED.try_with(|spawned| spawned.replace(spawned.get().wrapping_add(1)));
    // The first shard is used while the thread is being destroyed.
    count.unwrap_or(0) / RUN % SHARDS
}

impl<T> Default for Registry<T> {
    fn default() -> Self {
        Self {
            shards: std::array::from_fn(|_| Shard::default()),
            aborting: AtomicBool::new(false),
        }
    }
}

impl<T> Default for Shard<T> {
    fn default() -> Self {
        Self(Mutex::new(Slots {
            slots: Vec::new(),
            free: Vec::new(),
            generation: 0,
        }))
    }
}

impl<T> Shard<T> {
    fn slots(&self) -> MutexGuard<'_, Slots<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Slots<T> {
    fn of(&mut self, id: SlotId) -> Option<&mut Slot<T>> {
        let slot = self.slots.get_mut((id.slot / SHARDS) as usize);
        // Invariant 1: an id from an earlier generation of the slot finds nothing.
        slot.filter(|slot| slot.generation == id.generation)
    }

    fn tasks(&self) -> impl Iterator<Item = &Task<T>> {
        self.slots.iter().filter_map(|slot| slot.task.as_ref())
    }
}

impl<T> Registry<T> {
    fn shard(&self, id: SlotId) -> &Shard<T> {
        &self.shards[(id.slot % SHARDS) as usize]
    }

    pub(super) fn enter(&self, what: T) -> SlotId {
        let shard = shard_of_next();
        let task = Some(Task {
            what,
            since: Instant::now(),
            join: None,
        });
        let mut slots = self.shards[shard as usize].slots();
        let slots = &mut *slots;
        slots.generation = slots.generation.wrapping_add(1);
        let slot = Slot {
            generation: slots.generation,
            task,
        };
        let index = match slots.free.pop() {
            Some(index) => {
                slots.slots[index as usize] = slot;
                index
            }
            None => {
                slots.slots.push(slot);
                (slots.slots.len() - 1) as u32
            }
        };
        SlotId {
            slot: index * SHARDS + shard,
            generation: slots.generation,
        }
    }

    /// Stores the handle of a spawned task. By now the task may have ended, or its owner may have aborted all tasks.
    pub(super) fn set_handle(&self, id: SlotId, join: JoinHandle<()>) {
        let mut join = Some(join);
        let mut slots = self.shard(id).slots();
        if let Some(task) = slots.of(id).and_then(|slot| slot.task.as_mut()) {
            task.join = join.take();
            // Invariant 2: `aborting` is read after the handle was stored. Relaxed is enough, since the shard's lock
            // orders the read.
            if self.aborting.load(Ordering::Relaxed) {
                let late = task.join.as_ref().map(JoinHandle::abort_handle);
                drop(slots);
                if let Some(late) = late {
                    late.abort();
                }
                return;
            }
        }
        // Invariant 3: the lock is released before `join` is dropped, which still holds the handle of a task that has
        // ended.
        drop(slots);
    }

    /// Frees the slot of a task that has ended, and returns the owner's data about it.
    pub(super) fn leave(&self, id: SlotId) -> Option<T> {
        let mut slots = self.shard(id).slots();
        let task = slots.of(id)?.task.take()?;
        slots.free.push(id.slot / SHARDS);
        if slots.free.len() == slots.slots.len() && slots.slots.len() > KEPT {
            slots.slots = Vec::new();
            slots.free = Vec::new();
        }
        drop(slots);
        // Invariant 3: the task's `join` is dropped after the lock is released.
        Some(task.what)
    }

    /// Aborts every task, and also every task that is spawned after this call.
    pub(super) fn abort(&self) {
        // Invariant 2: `aborting` is set before any slot is visited. Relaxed is enough, since the shards' locks order
        // the store.
        self.aborting.store(true, Ordering::Relaxed);
        self.abort_where(|_| true);
    }

    pub(super) fn abort_where(&self, mut chosen: impl FnMut(&T) -> bool) {
        for shard in &self.shards {
            let slots = shard.slots();
            let joins = slots
                .tasks()
                .filter(|task| chosen(&task.what))
                .filter_map(|task| task.join.as_ref());
            let handles: Vec<_> = joins.map(JoinHandle::abort_handle).collect();
            drop(slots);
            // Invariant 3: the tasks are aborted after the lock is released.
            handles.iter().for_each(AbortHandle::abort);
        }
    }

    /// Returns the tasks for which `choose` returns true, the oldest first.
    pub(super) fn chosen(&self, mut choose: impl FnMut(&T) -> bool) -> Vec<(Instant, T)>
    where
        T: Clone,
    {
        let mut chosen = Vec::new();
        for shard in &self.shards {
            let slots = shard.slots();
            let tasks = slots.tasks().filter(|task| choose(&task.what));
            chosen.extend(tasks.map(|task| (task.since, task.what.clone())));
        }
        chosen.sort_by_key(|(since, _)| *since);
        chosen
    }

    /// Returns the owner's data about a task that has not ended.
    pub(super) fn get(&self, id: SlotId) -> Option<T>
    where
        T: Clone,
    {
        let mut slots = self.shard(id).slots();
        slots.of(id)?.task.as_ref().map(|task| task.what.clone())
    }
}

//! Which tasks there are: what is known of them, since when, and how to abort them.
//!
//! Invariants, cited by number where they are kept:
//!
//! 1. A slot is used again, and a ticket is of one use: its turn tells.
//! 2. `aborting` is set before any slot is looked at to abort it, and looked at after a slot got its handle. So a
//!    task that is being spawned meanwhile is aborted by one of the two.
//! 3. Nothing that is foreign, a name or a task's handle, is dropped or called under a lock: on a runtime that
//!    ends, aborting a task drops it here and now, and it leaves.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::Instant;

/// Few enough to be read for a name, enough that two threads seldom meet. A power of two.
const SHARDS: u32 = 8;
/// Tasks that one thread spawns into a shard before it goes to the next. They are woken in the order in which they
/// were spawned and run in batches, so a thread that ends one mostly ends its neighbours too, and finds their shard in
/// its cache.
const RUN: u32 = 64;
/// A shard that had more slots gives them back when it is empty.
const KEPT: usize = 1024;

pub(super) struct Registry<T> {
    shards: [Shard<T>; SHARDS as usize],
    aborting: AtomicBool,
}

/// On two cache lines of its own, since neighbours are fetched in pairs.
#[repr(align(128))]
struct Shard<T>(Mutex<Slots<T>>);

struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    turn: u32,
}

struct Slot<T> {
    turn: u32,
    task: Option<Task<T>>,
}

struct Task<T> {
    what: T,
    since: Instant,
    /// Absent until the task is spawned, which its slot precedes.
    join: Option<JoinHandle<()>>,
}

/// A task's place.
#[derive(Clone, Copy)]
pub(super) struct Ticket {
    /// Times `SHARDS`, and the shard.
    slot: u32,
    turn: u32,
}

thread_local! {
    /// Counts the tasks of this thread. Threads begin at different shards.
    static SPAWNED: Cell<u32> = {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Cell::new(NEXT.fetch_add(RUN, Ordering::Relaxed))
    };
}

fn shard_of_next() -> u32 {
    let count = SPAWNED.try_with(|spawned| spawned.replace(spawned.get().wrapping_add(1)));
    // The first one while the thread ends.
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
            turn: 0,
        }))
    }
}

impl<T> Shard<T> {
    fn slots(&self) -> MutexGuard<'_, Slots<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Slots<T> {
    fn of(&mut self, ticket: Ticket) -> Option<&mut Slot<T>> {
        let slot = self.slots.get_mut((ticket.slot / SHARDS) as usize);
        // Invariant 1.
        slot.filter(|slot| slot.turn == ticket.turn)
    }

    fn tasks(&self) -> impl Iterator<Item = &Task<T>> {
        self.slots.iter().filter_map(|slot| slot.task.as_ref())
    }
}

impl<T> Registry<T> {
    fn shard(&self, ticket: Ticket) -> &Shard<T> {
        &self.shards[(ticket.slot % SHARDS) as usize]
    }

    pub(super) fn enter(&self, what: T) -> Ticket {
        let shard = shard_of_next();
        let task = Some(Task {
            what,
            since: Instant::now(),
            join: None,
        });
        let mut slots = self.shards[shard as usize].slots();
        let slots = &mut *slots;
        slots.turn = slots.turn.wrapping_add(1);
        let slot = Slot {
            turn: slots.turn,
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
        Ticket {
            slot: index * SHARDS + shard,
            turn: slots.turn,
        }
    }

    /// The task was spawned. It may have ended since, or its group may be aborting.
    pub(super) fn joined(&self, ticket: Ticket, join: JoinHandle<()>) {
        let mut join = Some(join);
        let mut slots = self.shard(ticket).slots();
        if let Some(task) = slots.of(ticket).and_then(|slot| slot.task.as_mut()) {
            task.join = join.take();
            // Invariant 2. Relaxed: the lock orders it.
            if self.aborting.load(Ordering::Relaxed) {
                let late = task.join.as_ref().map(JoinHandle::abort_handle);
                drop(slots);
                if let Some(late) = late {
                    late.abort();
                }
                return;
            }
        }
        // Invariant 3, for the handle of a task that is gone.
        drop(slots);
    }

    /// The task has ended. What was known of it.
    pub(super) fn leave(&self, ticket: Ticket) -> Option<T> {
        let mut slots = self.shard(ticket).slots();
        let task = slots.of(ticket)?.task.take()?;
        slots.free.push(ticket.slot / SHARDS);
        if slots.free.len() == slots.slots.len() && slots.slots.len() > KEPT {
            slots.slots = Vec::new();
            slots.free = Vec::new();
        }
        drop(slots);
        // Invariant 3: `join` is dropped after the lock.
        Some(task.what)
    }

    /// Aborts every task, and every one that comes.
    pub(super) fn abort(&self) {
        // Invariant 2. Relaxed: the locks order it.
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
            // Invariant 3.
            handles.iter().for_each(AbortHandle::abort);
        }
    }

    /// Those that are chosen, the oldest first.
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

    /// What is known of a task that has not ended.
    pub(super) fn get(&self, ticket: Ticket) -> Option<T>
    where
        T: Clone,
    {
        let mut slots = self.shard(ticket).slots();
        slots
            .of(ticket)?
            .task
            .as_ref()
            .map(|task| task.what.clone())
    }
}

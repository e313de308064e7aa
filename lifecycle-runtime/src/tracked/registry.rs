//! Which tasks there are: what is known of them, since when, and how to abort them. Slots are used again, so what
//! has ended costs nothing.

use std::fmt::{Display, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How many tasks are named before the rest is counted.
const NAMED: usize = 8;

pub(super) struct Registry<T> {
    slots: Mutex<Slots<T>>,
}

struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    aborting: bool,
}

impl<T> Default for Registry<T> {
    fn default() -> Self {
        Self {
            slots: Mutex::new(Slots {
                slots: Vec::new(),
                free: Vec::new(),
                aborting: false,
            }),
        }
    }
}

struct Slot<T> {
    /// Counts the slot's tasks, so that a ticket of an earlier one is known as such.
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
    slot: u32,
    turn: u32,
}

impl<T> Registry<T> {
    fn slots(&self) -> MutexGuard<'_, Slots<T>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn enter(&self, what: T) -> Ticket {
        let task = Task {
            what,
            since: Instant::now(),
            join: None,
        };
        let mut slots = self.slots();
        let slots = &mut *slots;
        if let Some(index) = slots.free.pop() {
            let slot = &mut slots.slots[index as usize];
            slot.turn = slot.turn.wrapping_add(1);
            slot.task = Some(task);
            return Ticket {
                slot: index,
                turn: slot.turn,
            };
        }
        let index = slots.slots.len() as u32;
        slots.slots.push(Slot {
            turn: 0,
            task: Some(task),
        });
        Ticket {
            slot: index,
            turn: 0,
        }
    }

    /// The task was spawned. It may have ended since, or its group may be aborting.
    pub(super) fn joined(&self, ticket: Ticket, join: JoinHandle<()>) {
        let mut slots = self.slots();
        let late = slots.aborting.then(|| join.abort_handle());
        let slot = &mut slots.slots[ticket.slot as usize];
        match &mut slot.task {
            Some(task) if slot.turn == ticket.turn => task.join = Some(join),
            _ => drop(join),
        }
        drop(slots);
        // Outside the lock, as in `abort`.
        if let Some(late) = late {
            late.abort();
        }
    }

    /// The task has ended. What was known of it.
    pub(super) fn leave(&self, ticket: Ticket) -> Option<T> {
        let mut slots = self.slots();
        let slot = &mut slots.slots[ticket.slot as usize];
        let task = (slot.turn == ticket.turn).then(|| slot.task.take()).flatten()?;
        slots.free.push(ticket.slot);
        drop(slots);
        // Outside the lock: `join` may be the last handle of the task.
        Some(task.what)
    }

    /// Aborts every task, and every one that comes.
    pub(super) fn abort(&self) {
        self.slots().aborting = true;
        self.abort_where(|_| true);
    }

    pub(super) fn abort_where(&self, mut chosen: impl FnMut(&T) -> bool) {
        let slots = self.slots();
        let tasks = slots.slots.iter().filter_map(|slot| slot.task.as_ref());
        let joins = tasks.filter(|task| chosen(&task.what)).filter_map(|task| task.join.as_ref());
        let handles: Vec<_> = joins.map(JoinHandle::abort_handle).collect();
        drop(slots);
        // Outside the lock: on a runtime that ends, a task is dropped here and now, and leaves.
        handles.iter().for_each(tokio::task::AbortHandle::abort);
    }

    pub(super) fn len(&self) -> usize {
        let slots = self.slots();
        slots.slots.len() - slots.free.len()
    }

    /// Every task, the oldest first.
    pub(super) fn all(&self) -> Vec<(Instant, T)>
    where
        T: Clone,
    {
        let slots = self.slots();
        let tasks = slots.slots.iter().filter_map(|slot| slot.task.as_ref());
        let mut all: Vec<_> = tasks.map(|task| (task.since, task.what.clone())).collect();
        drop(slots);
        all.sort_by_key(|(since, _)| *since);
        all
    }

    /// What is known of a task that has not ended.
    pub(super) fn get(&self, ticket: Ticket) -> Option<T>
    where
        T: Clone,
    {
        let slots = self.slots();
        let slot = &slots.slots[ticket.slot as usize];
        slot.task.as_ref().map(|task| task.what.clone())
    }
}

pub(super) fn names<T: Display>(tasks: &[(Instant, T)], noun: &str) -> String {
    let count = tasks.len();
    let mut text = match count {
        1 => format!("1 {}", noun.strip_suffix('s').unwrap_or(noun)),
        _ => format!("{count} {noun}"),
    };
    let mut lead = ": ";
    for (since, name) in tasks.iter().take(NAMED) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{lead}{name} for {:.1} s", since.elapsed().as_secs_f32());
        lead = ", ";
    }
    if count > NAMED {
        let _ = write!(text, " and {} more", count - NAMED);
    }
    text
}

//! The engine: runs the steps of a plan as a graph, within its deadlines, and survives them all.
//!
//! Invariants, cited by number where they are kept:
//!
//! 1. A step is first polled once every step it depends on has ended, never before.
//! 2. Every step that is run is polled at least once, however late it is.
//! 3. What is inside is polled before a deadline is looked at, so a nested plan cuts its own steps
//!    and tells of them before its parent cuts it.
//! 4. A step ends exactly once. Its future is gone before its `abort` runs, and both before what
//!    depends on it starts.
//! 5. Nothing that foreign code does unwinds out of the engine: polling, dropping, aborting, describing, waking, logging.
//!    All of it is called through [`contain`].
//! 6. No lock is held while foreign code runs.
//! 7. Progress belongs to a component. Where a component cannot be told from another, it is cleaned again
//!    (`resumed`), and a row that had failed, or begun and gone, stays in the report.

mod abort_scope;
mod alarm;
mod contain;
mod each;
mod join;
mod open;
mod resumed;
mod row;
mod running;
mod shape;
mod shared;
mod span;
mod step;
mod step_handle;
mod timeouts;
mod timer;
mod views;
mod wakeups;

pub(crate) use abort_scope::{KnownElements, KnownSteps, address_of};
#[cfg(feature = "state-file")]
pub(crate) use contain::message_of;
pub(crate) use contain::{contain, message};
pub(crate) use each::Element;
pub(crate) use join::{Join, StepFuture};
pub(crate) use open::begin_owner;
pub(crate) use row::ForceHook;
pub(crate) use running::{EndedStep, RunningPlan};
pub(crate) use shared::ShutdownShared;
pub(crate) use span::PollSpan;
pub(crate) use step::component;
pub(crate) use timeouts::RuntimeTimeouts;
pub(crate) use timer::Timer;
pub(crate) use views::UnfinishedStep;
pub(crate) use wakeups::Wakeups;

pub use join::join_pinned;
pub use open::OpenPlan;
pub use row::Identity;
pub use step::{CleanupResult, StepRun};
pub use step_handle::StepHandle;
pub use timeouts::SetTimeout;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks. What a panicking thread left in these locks is whole: every change is a single store.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

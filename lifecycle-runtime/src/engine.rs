//! The engine: runs the steps of a plan as a graph, within their deadlines, and contains all their failures.
//!
//! The code cites these invariants by number:
//!
//! 1. A step is first polled once every step that it depends on has ended, never before.
//! 2. Every step that is run is polled at least once, however late it is.
//! 3. The inside of a step is polled before the step's own deadline is checked. So a nested plan cuts and reports its
//!    own steps before its parent cuts it.
//! 4. A step ends exactly once. Its future is gone before its `abort` runs, and both happen before any dependent step
//!    starts.
//! 5. No foreign code unwinds out of the engine, whether it is polled, dropped, aborted, described, woken or logged
//!    to. All of it is called through [`contain`](fn@contain).
//! 6. No lock is held while foreign code runs.
//! 7. Progress belongs to a component. A component that cannot be told from another is cleaned again (`resumed`), and
//!    rows that failed, or that began and vanished, stay in the report.

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

/// Locks a mutex, even a poisoned one: every change under these locks is a single store, so the value is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

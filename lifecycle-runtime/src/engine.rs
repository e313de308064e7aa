//! The engine runs the steps of a plan in the order of their dependencies and within their deadlines, and contains all
//! their failures.
//!
//! The code cites these invariants by number:
//!
//! 1. A step is first polled once every step that it depends on has ended, never before.
//! 2. Every step that is run is polled at least once, however late it is.
//! 3. The component inside a step is polled before the step's own deadline is checked. So a nested plan cuts and
//!    reports its own steps before the step around it is cut.
//! 4. A step ends exactly once. Its future is dropped before its `abort` runs, and both happen before any step that
//!    depends on it starts.
//! 5. No panic of foreign code leaves the engine, whether the code is polled, dropped, aborted, described, woken or
//!    logged to. The engine calls all foreign code through [`contain`](fn@contain).
//! 6. No lock is held while foreign code runs.
//! 7. The engine stores which steps have ended for each component, not for a position. A component that cannot be told
//!    from another one is cleaned again (`resumed`). Rows that failed stay in the report, and so do rows whose
//!    component began and is missing now.

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

/// Locks a mutex, even if a panic poisoned it: every change under these locks is a single store, so the value is never
/// half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

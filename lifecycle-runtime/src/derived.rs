//! The functions that the code of `#[derive(GracefulShutdown)]` calls, through `__private`, with one call for each
//! field.
//!
//! | file | role |
//! |---|---|
//! | `join` | holds the futures of all steps |
//! | `call`, `settle` | calls of `with`, and the types that they may return |
//! | `blocking` | calls on the blocking pool |
//! | `end_parts` | one list of the steps for `abort` and `release` |
//! | `fits` | explains a function of `with` that takes another type |
//! | `fields` | collects the plan of a value, field by field |
//! | `owner` | the object-safe interface of an owner |
//! | `probe` | finds out about the type of a field |

mod blocking;
mod call;
mod end_parts;
mod fields;
mod fits;
mod join;
mod owner;
mod probe;
mod settle;

use crate::{Plan, ShutdownState};

pub use blocking::{Blocking, abort_blocking, blocking, blocking_taken};
pub use call::{call, call_cx, call_owned, call_owned_cx};
pub use end_parts::EndParts;
pub use fields::Fields;
pub use fits::*;
pub use join::*;
pub use owner::{Owner, Steps, Timed};
pub use probe::*;
pub use settle::*;

/// Proves, in a const context, that the steps of a plan fit its timeout. Otherwise the compilation fails.
#[track_caller]
pub const fn prove(plan: &Plan) {
    plan.__prove();
}

/// Does the work of [`prove`] for a plan with the default timeout.
#[track_caller]
pub const fn prove_default(plan: &Plan) {
    plan.__prove_default();
}

/// Disarms an owner that has nothing left to shut down: no later shutdown runs a step.
pub fn disarm(state: &mut ShutdownState) {
    state.disarm();
}

/// Returns the address of a value. The engine finds the plan that the value opened by this address, as long as the
/// value cannot move.
pub fn address<T: ?Sized>(value: &T) -> usize {
    crate::engine::address_of(value)
}

/// Takes the place of the `ShutdownState` of a struct whose derive failed. The code never runs.
pub fn no_state() -> ! {
    unreachable!("the derive of this type failed to compile")
}

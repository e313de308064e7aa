//! What a derived type is made of: generated code calls it by way of `__private`, and keeps to one call a field.
//!
//! | file | role |
//! |---|---|
//! | `join` | holds the futures of all steps |
//! | `call`, `settle` | calls of `with`, and what they may return |
//! | `blocking` | calls on the blocking pool |
//! | `end_parts` | one list of the steps for `abort` and `release` |
//! | `fits` | explains a function of `with` that takes something else |
//! | `fields` | the plan of a value, field by field |
//! | `owner` | what an owner offers as an object |
//! | `probe` | what the derive asks of a field's type |

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

/// Proves, in a const context, that a plan fits its timeouts.
#[track_caller]
pub const fn prove(plan: &Plan) {
    plan.__prove();
}

/// Like [`prove`], for a plan with the default timeout.
#[track_caller]
pub const fn prove_default(plan: &Plan) {
    plan.__prove_default();
}

/// Disarms an owner: there is nothing to shut down any more.
pub fn disarm(state: &mut ShutdownState) {
    state.disarm();
}

/// The address of a value, to find the plan it opened while nobody can move it.
pub fn address<T: ?Sized>(value: &T) -> usize {
    crate::engine::address_of(value)
}

/// Stands for the state of a struct whose derive failed: that code never runs.
pub fn no_state() -> ! {
    unreachable!("the derive of this type failed to compile")
}

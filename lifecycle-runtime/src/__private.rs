//! What `#[derive(GracefulShutdown)]` writes calls. Not for use by hand: it may change in any release.

mod fields;
mod force;
mod join;
mod lend;
mod owner;
mod probe;
mod settle;

pub use std::convert::Into;
pub use std::future::Future;
pub use std::marker::{Send, Sized};
pub use std::ops::Drop;
pub use std::option::Option::{self, None, Some};
pub use std::pin::{Pin, pin};
pub use std::result::Result::{self, Err, Ok};
pub use std::time::Duration;

pub use crate::component::End;
pub use crate::engine::{Ending, Run, Seat, SetTime, StepRun, join_pinned};
pub use crate::{
    BoxError, Component, Context, GracefulShutdown, Plan, PlanStep, Report, ResolvedPlan,
    ShutdownState,
};
pub use fields::Fields;
pub use force::Force;
pub use join::*;
pub use lend::{Lend, blocking};
pub use owner::{Owner, Steps, Timed};
pub use probe::*;
pub use settle::*;

pub use crate::{
    __lifecycle_settle as settle, __lifecycle_settle_now as settle_now, __lifecycle_sole as sole,
};

/// Proves, in a const context, that a plan fits its timeouts.
#[track_caller]
pub const fn prove(plan: &Plan) {
    plan.__prove();
}

/// The same of a plan that states no timeout.
#[track_caller]
pub const fn prove_default(plan: &Plan) {
    plan.__prove_default();
}

/// There is nothing to shut down any more.
pub fn disarm(state: &mut ShutdownState) {
    state.disarm();
}

/// Runs an `abort` or a `release`; its panic is logged and goes no further.
pub fn contain(f: impl FnOnce()) {
    if let Err(message) = crate::engine::contain(f) {
        crate::log::release_panicked(&message);
    }
}

/// Calls a closure, with the lifetime of what it returns tied to its argument's.
pub fn call<'a, T: ?Sized, R>(f: impl FnOnce(&'a mut T) -> R, value: &'a mut T) -> R {
    f(value)
}

/// Likewise, with the context.
pub fn call_cx<'a, T: ?Sized, R>(
    f: impl FnOnce(&'a mut T, &'a Context) -> R,
    value: &'a mut T,
    cx: &'a Context,
) -> R {
    f(value, cx)
}

/// Likewise, with a value that is consumed.
pub fn call_owned<T, R>(f: impl FnOnce(T) -> R, value: T) -> R {
    f(value)
}

/// Likewise, with the context.
pub fn call_owned_cx<'a, T, R>(
    f: impl FnOnce(T, &'a Context) -> R,
    value: T,
    cx: &'a Context,
) -> R {
    f(value, cx)
}

/// Stands for the state of a struct whose derive failed: that code never runs.
pub fn no_state() -> ! {
    unreachable!("the derive of this type failed to compile")
}

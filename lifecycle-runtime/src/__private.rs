//! What `#[derive(GracefulShutdown)]` writes calls. Not for use by hand: it may change in any release.

mod blocking;
mod fields;
mod force;
mod join;
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
pub use crate::engine::{
    CleanupResult, Identity, OpenPlan, SetTimeout, StepHandle, StepRun, join_pinned,
};
pub use crate::{
    BoxError, Component, Context, GracefulShutdown, Plan, PlanStep, Report, ResolvedPlan,
    ShutdownState,
};
pub use blocking::{Blocking, abort_blocking, blocking, blocking_taken};
pub use fields::Fields;
pub use force::Force;
pub use join::*;
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

/// Like [`prove`], for a plan with the default timeout.
#[track_caller]
pub const fn prove_default(plan: &Plan) {
    plan.__prove_default();
}

/// Disarms an owner: there is nothing to shut down any more.
pub fn disarm(state: &mut ShutdownState) {
    state.disarm();
}

/// Calls a closure, with the lifetime of what it returns tied to its argument's.
pub fn call<'a, T: ?Sized, R>(f: impl FnOnce(&'a mut T) -> R, value: &'a mut T) -> R {
    f(value)
}

/// Like [`call`], with the context.
pub fn call_cx<'a, T: ?Sized, R>(
    f: impl FnOnce(&'a mut T, &'a Context) -> R,
    value: &'a mut T,
    cx: &'a Context,
) -> R {
    f(value, cx)
}

/// Calls a closure that consumes the value.
pub fn call_owned<T, R>(f: impl FnOnce(T) -> R, value: T) -> R {
    f(value)
}

/// Like [`call_owned`], with the context.
pub fn call_owned_cx<'a, T, R>(
    f: impl FnOnce(T, &'a Context) -> R,
    value: T,
    cx: &'a Context,
) -> R {
    f(value, cx)
}

/// The address of a value, to find the plan it opened while nobody can move it.
pub fn address<T: ?Sized>(value: &T) -> usize {
    crate::engine::address_of(value)
}

/// Stands for the state of a struct whose derive failed: that code never runs.
pub fn no_state() -> ! {
    unreachable!("the derive of this type failed to compile")
}

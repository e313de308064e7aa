//! What `#[derive(GracefulShutdown)]` writes calls. Not for use by hand: it may change in any release.

pub use std::convert::Into;
pub use std::future::Future;
pub use std::marker::{Send, Sized};
pub use std::ops::Drop;
pub use std::option::Option::{self, None, Some};
pub use std::pin::{Pin, pin};
pub use std::primitive::bool as Bool;
pub use std::result::Result::{self, Err, Ok};
pub use std::time::Duration;

pub use crate::component::End;
pub use crate::derived::*;
pub use crate::engine::{
    CleanupResult, Identity, OpenPlan, SetTimeout, StepHandle, StepRun, join_pinned,
};
pub use crate::state::DEFAULT_TIMEOUT;
pub use crate::{
    __lifecycle_lend as lend, __lifecycle_settle as settle, __lifecycle_settle_now as settle_now,
    __lifecycle_sole as sole,
};
pub use crate::{
    BoxError, Component, Context, MustClean, Plan, PlanStep, Report, ResolvedPlan, ShutdownState,
};

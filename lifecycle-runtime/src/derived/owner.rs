//! The interface between an owner and the code that shuts it down.

use std::future::Future;
use std::pin::Pin;

use super::plan_of;
use crate::engine::SetTimeout;
use crate::{BoxError, Component, Context, ShutdownState};

/// The methods that the derive implements for every owner.
///
/// The trait is object-safe, so that the code that runs an owner is compiled once. Its methods are compiled in the
/// owner's module, so that a change of one owner does not recompile the code of other owners.
pub trait Owner {
    /// Returns the field marked `state`.
    fn __state(&mut self) -> &mut ShutdownState;

    /// Passes the run-time timeouts to `_set`.
    fn __times(&self, _set: &mut SetTimeout<'_>) {}

    /// Returns the future of the owner's cleanup. The outcome is in the report, not in the future's output.
    fn __run(&mut self) -> Steps<'_>;

    /// Implements [`__run`](Self::__run): returns the owner's cleanup in a box.
    fn __boxed(&mut self) -> Steps<'_>
    where
        Self: Component + Sized,
    {
        Box::pin(self.cleanup(Context::root()))
    }

    /// Implements the owner's `Drop`. If the shutdown was not awaited to its end, logs one event, then releases, in
    /// plan order, what the owner alone owns.
    fn __dropped(&mut self)
    where
        Self: Component + Sized,
    {
        if self.__state().log_drop(plan_of::<Self>()) {
            // This call does not panic: the release of each step is contained by itself.
            self.release();
        }
    }
}

/// The method that the derive implements for a part with run-time timeouts.
pub trait Timed {
    /// Passes the run-time timeouts to `set`.
    fn __times(&self, set: &mut SetTimeout<'_>);
}

/// The future of an owner's steps.
pub type Steps<'a> = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send + 'a>>;

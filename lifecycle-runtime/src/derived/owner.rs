//! What an owner offers to what runs it.

use std::future::Future;
use std::pin::Pin;

use super::plan_of;
use crate::engine::SetTimeout;
use crate::{BoxError, Component, Context, ShutdownState};

/// What the derive writes for every owner. It can be made an object, so that what runs an owner is compiled once; and its
/// methods are compiled where the owner is, so that a change of one leaves the code of others alone.
pub trait Owner {
    /// The field marked `state`.
    fn __state(&mut self) -> &mut ShutdownState;

    /// Tells the timeouts that only the value knows.
    fn __times(&self, _set: &mut SetTimeout<'_>) {}

    /// Its cleanup, by itself: what that comes to is in the report.
    fn __run(&mut self) -> Steps<'_>;

    /// The body of [`__run`](Self::__run).
    fn __boxed(&mut self) -> Steps<'_>
    where
        Self: Component + Sized,
    {
        Box::pin(self.cleanup(Context::root()))
    }

    /// The body of its `Drop`: one event if its shutdown was not awaited to the end, then what it alone owns is released,
    /// in plan order.
    fn __dropped(&mut self)
    where
        Self: Component + Sized,
    {
        if self.__state().tell_of_drop(plan_of::<Self>()) {
            // Each step is contained by itself.
            self.release();
        }
    }
}

/// What the derive writes for a part whose timeouts are computed.
pub trait Timed {
    /// Tells the timeouts that only the value knows.
    fn __times(&self, set: &mut SetTimeout<'_>);
}

/// The steps of an owner that is run by itself.
pub type Steps<'a> = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send + 'a>>;

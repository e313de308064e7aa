//! A task, counted from before it is spawned until after its future is gone.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::Keeper;
use super::registry::Ticket;
use crate::engine::contain;
use crate::gate::{Closed, Pass};
use crate::{BoxError, TaskOutcome};

pin_project! {
    /// Fields are dropped in order: the task first.
    pub(super) struct Watched<K: Keeper, F> {
        #[pin]
        task: F,
        place: Place<K>,
    }
}

/// Counted out when it is dropped: however the task ended, and also when it never ran.
struct Place<K: Keeper> {
    keeper: Arc<K>,
    ticket: Ticket,
    // Dropped after what `Drop` does, so that the gate is drained once all is told.
    _pass: Pass,
}

impl<K: Keeper> Drop for Place<K> {
    fn drop(&mut self) {
        if let Some(task) = self.keeper.tracked().tasks.leave(self.ticket) {
            self.keeper.gone(&task);
        }
    }
}

impl<K: Keeper> Place<K> {
    fn ended(&self, ended: Result<Result<(), BoxError>, String>) {
        let error = match ended {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(message) => format!("panicked: {message}").into(),
        };
        if let Some(task) = self.keeper.tracked().tasks.get(self.ticket) {
            self.keeper.failed(&task, error);
        }
    }
}

impl<K: Keeper, F> Watched<K, F> {
    pub(super) fn enter(keeper: &Arc<K>, what: K::Task, task: F) -> Result<Self, Closed> {
        let pass = keeper.tracked().gate.enter()?;
        let place = Place {
            keeper: Arc::clone(keeper),
            ticket: keeper.tracked().tasks.enter(what),
            _pass: pass,
        };
        Ok(Self { task, place })
    }

    pub(super) fn ticket(&self) -> Ticket {
        self.place.ticket
    }

    /// A task that is a function.
    pub(super) fn call<T: TaskOutcome>(self)
    where
        F: FnOnce() -> T,
    {
        let Self { task, place } = self;
        place.ended(contain(|| task().into_outcome()));
    }
}

impl<K: Keeper, F: Future<Output: TaskOutcome>> Future for Watched<K, F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let task = this.task;
        match contain(|| task.poll(cx).map(TaskOutcome::into_outcome)) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(outcome)) => {
                this.place.ended(Ok(outcome));
                Poll::Ready(())
            }
            Err(message) => {
                this.place.ended(Err(message));
                Poll::Ready(())
            }
        }
    }
}

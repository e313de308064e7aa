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
use crate::{BoxError, TaskOutcome, TaskOutput};

pin_project! {
    /// Fields are dropped in order: the task first.
    struct Watched<K: Keeper, F> {
        // Absent once it is dropped.
        #[pin]
        task: Option<F>,
        place: Place<K>,
    }

    impl<K: Keeper, F> PinnedDrop for Watched<K, F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            // The runtime would keep its panic for a handle that nobody awaits.
            if let Err(message) = contain(|| this.task.set(None)) {
                this.place.ended(Err(message));
            }
        }
    }
}

/// Counted out when it is dropped: however the task ended, and also when it never ran.
pub(crate) struct Place<K: Keeper> {
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
    pub(crate) fn enter(keeper: &Arc<K>, task: K::Task) -> Result<Self, Closed> {
        let pass = keeper.tracked().gate.enter()?;
        keeper.admitted(&task, &pass);
        Ok(Self {
            keeper: Arc::clone(keeper),
            ticket: keeper.tracked().tasks.enter(task),
            _pass: pass,
        })
    }

    pub(crate) fn keeper(&self) -> &Arc<K> {
        &self.keeper
    }

    pub(super) fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// Has a task run in it. The keeper is its own, which who calls this has anyway.
    pub(crate) fn spawn<F>(self, keeper: &K, task: F)
    where
        F: Future<Output: TaskOutcome> + Send + 'static,
    {
        let ticket = self.ticket;
        let join = tokio::spawn(Watched {
            task: Some(task),
            place: self,
        });
        keeper.tracked().tasks.joined(ticket, join);
    }

    /// Runs a task that is a function.
    pub(super) fn call<T: TaskOutcome>(self, f: impl FnOnce() -> T) {
        self.ended(contain(|| f().into_outcome()));
    }

    fn ended(&self, ended: Result<Result<(), BoxError>, String>) {
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.failed(error),
            Err(message) => self.failed(format!("panicked: {message}").into()),
        }
    }

    #[cold]
    fn failed(&self, error: BoxError) {
        if let Some(task) = self.keeper.tracked().tasks.get(self.ticket) {
            self.keeper.failed(&task, error);
        }
    }
}

impl<K: Keeper, F: Future<Output: TaskOutcome>> Future for Watched<K, F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let Some(task) = this.task.as_pin_mut() else {
            return Poll::Ready(());
        };
        let ended = match contain(|| task.poll(cx).map(TaskOutput::into_outcome)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(outcome)) => Ok(outcome),
            Err(message) => Err(message),
        };
        this.place.ended(ended);
        Poll::Ready(())
    }
}

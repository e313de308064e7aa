//! The future of a tracked task, and the guard that keeps the task counted.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::TaskOwner;
use super::registry::SlotId;
use crate::engine::contain;
use crate::gate::{Closed, Pass};
use crate::{BoxError, TaskOutcome, TaskOutput};

pin_project! {
    /// The future that tokio runs for a tracked task. Its fields are dropped in this order: first the task, then its
    /// guard.
    struct Watched<K: TaskOwner, F> {
        // `None` once the task's own future is dropped.
        #[pin]
        task: Option<F>,
        guard: TaskGuard<K>,
    }

    impl<K: TaskOwner, F> PinnedDrop for Watched<K, F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            // A panic is caught here, because the runtime would store it in the task's handle, which nothing awaits.
            if let Err(message) = contain(|| this.task.set(None)) {
                this.guard.ended(Err(message));
            }
        }
    }
}

/// A guard that keeps a task counted until the guard is dropped, however the task ends, and even if it never runs.
pub(crate) struct TaskGuard<K: TaskOwner> {
    owner: Arc<K>,
    id: SlotId,
    // This field is dropped after `Drop` has run, so the gate is drained only once the owner was told that the task
    // ended.
    _pass: Pass,
}

impl<K: TaskOwner> Drop for TaskGuard<K> {
    fn drop(&mut self) {
        if let Some(task) = self.owner.tracked().tasks.leave(self.id) {
            self.owner.on_ended(&task);
        }
    }
}

impl<K: TaskOwner> TaskGuard<K> {
    pub(crate) fn enter(owner: &Arc<K>, task: K::Task) -> Result<Self, Closed> {
        let pass = owner.tracked().gate.enter()?;
        owner.on_admitted(&task, &pass);
        Ok(Self {
            owner: Arc::clone(owner),
            id: owner.tracked().tasks.enter(task),
            _pass: pass,
        })
    }

    pub(crate) fn owner(&self) -> &Arc<K> {
        &self.owner
    }

    pub(super) fn id(&self) -> SlotId {
        self.id
    }

    /// Spawns `task` with this guard. The caller passes `owner`, which saves a clone of the guard's `Arc`.
    pub(crate) fn spawn<F>(self, owner: &K, task: F)
    where
        F: Future<Output: TaskOutcome> + Send + 'static,
    {
        let id = self.id;
        let join = tokio::spawn(Watched {
            task: Some(task),
            guard: self,
        });
        owner.tracked().tasks.set_handle(id, join);
    }

    /// Runs `f` as the task, on the calling thread of the blocking pool.
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
        if let Some(task) = self.owner.tracked().tasks.get(self.id) {
            self.owner.on_failed(&task, error);
        }
    }
}

impl<K: TaskOwner, F: Future<Output: TaskOutcome>> Future for Watched<K, F> {
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
        this.guard.ended(ended);
        Poll::Ready(())
    }
}

//! The components of tokio's tasks and task sets, of cancellation tokens, and of task trackers.

use std::fmt::Write as _;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use tokio::task::{Id, JoinError, JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::until::until;
use crate::engine::{Identity, contain, message};
use crate::{BoxError, Component, Context, MustClean, TaskOutput, TimedOut};

impl<T> MustClean for JoinHandle<T> {}
impl<T> MustClean for AbortOnDropHandle<T> {}
impl<T> MustClean for JoinSet<T> {}
impl MustClean for CancellationToken {}
impl MustClean for TaskTracker {}

impl<T: TaskOutput + Send> Component for JoinHandle<T> {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        let id = self.id();
        if self.is_finished() {
            return read(self).await.map_or(Ok(()), |ended| outcome(id, ended));
        }
        cx.waiting_for(move || format!("task {id} to end"));
        if let Some(ended) = until(cx.deadline(), &mut *self).await {
            return outcome(id, ended);
        }
        JoinHandle::abort(self);
        cx.waiting_for(move || format!("task {id}, aborted, to end"));
        match self.await {
            Err(error) if error.is_cancelled() => Err(TimedOut::new(format!("task {id}")).into()),
            ended => outcome(id, ended),
        }
    }

    fn abort(&mut self) {
        JoinHandle::abort(self);
    }

    fn release(&mut self) {
        JoinHandle::abort(self);
    }

    fn __identity(&mut self) -> Option<Identity> {
        Some(Identity::Task(self.id()))
    }
}

impl<T: TaskOutput + Send> Component for AbortOnDropHandle<T> {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        let id = self.abort_handle().id();
        AbortOnDropHandle::abort(self);
        if self.is_finished() {
            return read(self).await.map_or(Ok(()), |ended| outcome(id, ended));
        }
        cx.waiting_for(move || format!("task {id}, aborted, to end"));
        outcome(id, self.await)
    }

    // `release` is not overridden, since the handle's own drop aborts the task.
    fn abort(&mut self) {
        AbortOnDropHandle::abort(self);
    }

    fn __identity(&mut self) -> Option<Identity> {
        Some(Identity::Task(self.abort_handle().id()))
    }
}

/// Returns how a finished task ended, or `None` if the handle's output was read before.
///
/// A handle does not tell whether its output was read, and panics when it is read twice. So this function reads the
/// handle, and takes a panic to mean that the output was read before. If panics abort the process, a second read would
/// abort it; in such a process no task ends by a panic either.
async fn read<H, T>(handle: &mut H) -> Option<Result<T, JoinError>>
where
    H: Future<Output = Result<T, JoinError>> + Unpin,
{
    if cfg!(panic = "abort") {
        return None;
    }
    poll_fn(|cx| match contain(|| Pin::new(&mut *handle).poll(cx)) {
        Ok(Poll::Ready(ended)) => Poll::Ready(Some(ended)),
        Ok(Poll::Pending) => Poll::Pending,
        Err(_) => Poll::Ready(None),
    })
    .await
}

/// Turns the end of a task into the result of its cleanup. A cancelled task has ended as intended; an error or a panic
/// keeps its text.
fn outcome<T: TaskOutput>(id: Id, ended: Result<T, JoinError>) -> Result<(), BoxError> {
    match ended {
        Ok(returned) => returned.into_outcome(),
        Err(error) => match error.try_into_panic() {
            Ok(payload) => Err(format!("task {id} panicked: {}", message(payload)).into()),
            Err(_cancelled) => Ok(()),
        },
    }
}

impl<T: TaskOutput + Send + 'static> Component for JoinSet<T> {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        let left = Arc::new(AtomicUsize::new(self.len()));
        let mut ended = Ended::resumed(cx);
        describe_wait(cx, &left, "to end");
        let soft = cx.deadline();
        if until(soft, ended.join_all(self, &left)).await.is_none() {
            ended.were_aborted = true;
            self.abort_all();
            describe_wait(cx, &left, "that was aborted to end");
            ended.join_all(self, &left).await;
        }
        ended.into_result()
    }

    fn abort(&mut self) {
        self.abort_all();
    }

    fn release(&mut self) {
        self.abort_all();
    }
}

/// Sets the step's description: how many tasks the cleanup is waiting for.
fn describe_wait(cx: &Context, left: &Arc<AtomicUsize>, what: &'static str) {
    let count = Arc::clone(left);
    // Relaxed is enough: the number is only displayed.
    cx.waiting_for(move || match count.load(Ordering::Relaxed) {
        1 => format!("1 task {what}"),
        tasks => format!("{tasks} tasks {}", what.replace("was", "were")),
    });
}

/// The failures and aborts of a set's tasks that a cleanup has seen so far.
#[derive(Default)]
struct TaskEnds {
    failures: Texts,
    aborted: Texts,
}

/// The first `KEPT` texts, and the number of the texts beyond those.
#[derive(Default)]
struct Texts {
    kept: String,
    count: usize,
}

impl Texts {
    const KEPT: usize = 8;

    fn add(&mut self, mark: &str, text: &str) {
        self.count += 1;
        if self.count <= Self::KEPT {
            let mark = if self.count == 1 { "" } else { mark };
            // Errors are ignored here and below, since writing to a `String` cannot fail.
            let _ = write!(self.kept, "{mark}{text}");
        }
    }

    fn into_text(mut self) -> Option<String> {
        match self.count.checked_sub(Self::KEPT) {
            _ if self.count == 0 => return None,
            Some(more @ 1..) => {
                let _ = write!(self.kept, " and {more} more");
            }
            Some(0) | None => {}
        }
        Some(self.kept)
    }
}

/// The ends of tasks that a cleanup has seen. A set forgets the tasks that were joined, so when the cleanup's future is
/// dropped, it stores these ends for the step's next run.
struct Ended<'a> {
    ends: Option<TaskEnds>,
    were_aborted: bool,
    cx: &'a Context,
}

impl<'a> Ended<'a> {
    fn resumed(cx: &'a Context) -> Self {
        let left = cx.step().and_then(|step| step.take_left());
        let earlier = left.and_then(|left| left.downcast().ok());
        Self {
            ends: Some(earlier.map(|ends| *ends).unwrap_or_default()),
            were_aborted: false,
            cx,
        }
    }

    async fn join_all<T: TaskOutput + 'static>(
        &mut self,
        set: &mut JoinSet<T>,
        left: &AtomicUsize,
    ) {
        while let Some(joined) = set.join_next_with_id().await {
            left.store(set.len(), Ordering::Relaxed);
            let (id, joined) = match joined {
                Ok((id, returned)) => (id, Ok(returned)),
                Err(error) => (error.id(), Err(error)),
            };
            self.add(id, joined);
        }
    }

    fn add<T: TaskOutput>(&mut self, id: Id, joined: Result<T, JoinError>) {
        let ends = self.ends.get_or_insert_default();
        match joined {
            Err(error) if error.is_cancelled() => {
                if self.were_aborted {
                    ends.aborted.add(", ", &format!("task {id}"));
                }
            }
            Err(error) => {
                if let Err(error) = outcome::<()>(id, Err(error)) {
                    ends.failures.add("; ", &error.to_string());
                }
            }
            Ok(returned) => {
                if let Err(error) = returned.into_outcome() {
                    let text = crate::reason::Chain(&*error).to_string();
                    ends.failures
                        .add("; ", &format!("task {id} failed: {text}"));
                }
            }
        }
    }

    fn into_result(mut self) -> Result<(), BoxError> {
        let TaskEnds { failures, aborted } = self.ends.take().unwrap_or_default();
        match (aborted.into_text(), failures.into_text()) {
            (None, None) => Ok(()),
            (None, Some(failures)) => Err(failures.into()),
            (Some(aborted), None) => Err(TimedOut::new(aborted).into()),
            (Some(aborted), Some(failures)) => {
                Err(TimedOut::new(format!("{aborted}; {failures}")).into())
            }
        }
    }
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        if let (Some(ends), Some(step)) = (self.ends.take(), self.cx.step()) {
            step.leave(Box::new(ends));
        }
    }
}

impl Component for CancellationToken {
    async fn cleanup(&mut self, _cx: &Context) -> Result<(), BoxError> {
        self.cancel();
        Ok(())
    }

    fn abort(&mut self) {
        self.cancel();
    }
}

impl Component for TaskTracker {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        self.close();
        let tracker = self.clone();
        cx.waiting_for(move || match tracker.len() {
            1 => "1 tracked task to end".into(),
            tasks => format!("{tasks} tracked tasks to end"),
        });
        self.wait().await;
        Ok(())
    }
}

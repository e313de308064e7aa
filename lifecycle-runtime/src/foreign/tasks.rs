//! Tasks, and what tells and counts them.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::engine::{contain, message};
use crate::{BoxError, Component, Context};

impl<T: Send> Component for JoinHandle<T> {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        let id = self.id();
        if self.is_finished() {
            return match read(self).await {
                Some(Err(error)) => explain(error),
                Some(Ok(_)) | None => Ok(()),
            };
        }
        JoinHandle::abort(self);
        cx.waiting_for(move || format!("task {id}, aborted, to end"));
        match self.await {
            Ok(_) => Ok(()),
            Err(error) => explain(error),
        }
    }

    fn abort(&mut self) {
        JoinHandle::abort(self);
    }

    fn release(&mut self) {
        JoinHandle::abort(self);
    }
}

/// The end of a finished task, or `None` if somebody has read it before.
///
/// A handle does not tell whether it was read, and panics when it is read twice: that panic is the answer.
/// Where panics abort the process it cannot be asked, but there no task ends by panicking either.
async fn read<T>(handle: &mut JoinHandle<T>) -> Option<Result<T, JoinError>> {
    if cfg!(panic = "abort") {
        return None;
    }
    poll_fn(
        |cx| match contain(|| Future::poll(Pin::new(&mut *handle), cx)) {
            Ok(Poll::Ready(ended)) => Poll::Ready(Some(ended)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(_) => Poll::Ready(None),
        },
    )
    .await
}

/// A cancelled task is what was asked for; a panic keeps its message.
fn explain(error: JoinError) -> Result<(), BoxError> {
    let id = error.id();
    match error.try_into_panic() {
        Ok(payload) => Err(format!("task {id} panicked: {}", message(payload)).into()),
        Err(_cancelled) => Ok(()),
    }
}

impl<T: Send + 'static> Component for JoinSet<T> {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        self.abort_all();
        let left = Arc::new(AtomicUsize::new(self.len()));
        let count = Arc::clone(&left);
        // Relaxed: a number to be shown.
        cx.waiting_for(move || match count.load(Ordering::Relaxed) {
            1 => "1 aborted task to end".into(),
            tasks => format!("{tasks} aborted tasks to end"),
        });
        let mut panics = Panics::default();
        while let Some(joined) = self.join_next().await {
            left.store(self.len(), Ordering::Relaxed);
            if let Err(error) = joined.map(drop).or_else(explain) {
                panics.add(error);
            }
        }
        panics.into_result()
    }

    fn abort(&mut self) {
        self.abort_all();
    }

    fn release(&mut self) {
        self.abort_all();
    }
}

/// How many tasks panicked, and what the first of them said.
#[derive(Default)]
struct Panics {
    first: Option<BoxError>,
    more: usize,
}

impl Panics {
    fn add(&mut self, error: BoxError) {
        match self.first {
            None => self.first = Some(error),
            Some(_) => self.more += 1,
        }
    }

    fn into_result(self) -> Result<(), BoxError> {
        match (self.first, self.more) {
            (None, _) => Ok(()),
            (Some(first), 0) => Err(first),
            (Some(first), more) => Err(format!("{} tasks panicked; {first}", more + 1).into()),
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

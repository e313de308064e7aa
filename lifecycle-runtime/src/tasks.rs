//! Named background tasks. A shutdown cancels them together and waits for them, and aborts those that run beyond its
//! soft deadline.

mod restart;
mod supervise;

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use crate::engine::contain;
use crate::gate::{Closed, Gate};
use crate::reason::Chain;
use crate::tracked::{self, TaskOwner, Tracked};
use crate::{
    BoxError, Component, Context, MustClean, Reason, ShutdownHandle, TaskOutcome, TaskOutput, log,
};

pub use self::restart::Restart;
pub use self::supervise::{Supervised, TaskState};

/// A group of named background tasks that are cancelled, awaited and reported together.
///
/// The group's shutdown cancels all tasks together and waits for them. At the soft deadline it aborts the tasks that
/// still run, and waits for these too. The report names the aborted tasks, and holds every error and panic of a task
/// since the server's start. Dropping the group aborts its tasks, so no task goes on without its group.
///
/// Code elsewhere that spawns into the group holds a [`Spawner`], which keeps neither the group nor its tasks alive. A
/// task that should be restarted when it fails is [supervised](Spawner::supervise).
///
/// ```
/// use lifecycle_runtime::{Component, Context, Reason, TaskGroup};
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), lifecycle_runtime::BoxError> {
/// let mut tasks = TaskGroup::new();
/// tasks.spawn_with("ticker", async |stop| {
///     let mut ticks = tokio::time::interval(Duration::from_secs(1));
///     while stop.run_until_cancelled(ticks.tick()).await.is_some() {}
/// })?;
///
/// tasks.cleanup(&Context::new(Reason::Requested, Duration::from_secs(5))).await
/// # }
/// ```
#[doc(alias("spawn", "supervisor", "nursery", "drain"))]
pub struct TaskGroup {
    spawner: Spawner,
}

/// A handle that spawns into a [`TaskGroup`]. Clones are cheap, and keep neither the group nor its tasks alive.
#[derive(Clone)]
pub struct Spawner {
    shared: Arc<Shared>,
}

/// The signal that tells a task of a [`TaskGroup`] to stop. Clones are cheap.
#[derive(Clone, Debug)]
pub struct TaskStop {
    gate: Gate,
}

struct Shared {
    tracked: Tracked<Cow<'static, str>>,
    failures: Mutex<Failures>,
    /// The handle of the server that is shut down when a task of this group fails. `None` if the group is not critical.
    handle: Option<ShutdownHandle>,
}

/// The errors and panics of a group's tasks: the first `KEPT` texts, and the number of the texts beyond those.
#[derive(Default)]
struct Failures {
    texts: Vec<String>,
    more: usize,
}

impl Failures {
    const KEPT: usize = 32;

    fn add(&mut self, text: String) {
        if self.texts.len() < Self::KEPT {
            self.texts.push(text);
        } else {
            self.more += 1;
        }
    }
}

impl TaskGroup {
    /// Creates an empty group.
    pub fn new() -> Self {
        Self::with(None)
    }

    /// Creates a group of tasks that the server cannot do without. A task that ends with an error or a panic begins the
    /// server's shutdown, with [`Reason::TaskFailed`]. A [supervised](Spawner::supervise) task does so only once it
    /// failed too often and is not restarted any more.
    pub fn critical(handle: &ShutdownHandle) -> Self {
        Self::with(Some(handle.clone()))
    }

    fn with(handle: Option<ShutdownHandle>) -> Self {
        Self {
            spawner: Spawner {
                shared: Arc::new(Shared {
                    tracked: Tracked::default(),
                    failures: Mutex::default(),
                    handle,
                }),
            },
        }
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.spawner.shared
    }

    /// Returns a handle with which code elsewhere spawns into this group.
    pub fn spawner(&self) -> Spawner {
        self.spawner.clone()
    }

    /// Admits no more tasks and tells the running ones to stop. Does not wait for them: see [`drained`](Self::drained).
    pub fn close(&self) {
        self.shared().tracked.gate.close();
    }

    /// Waits until the group is closed and every task has ended. Does not close the group: call
    /// [`close`](Self::close).
    ///
    /// # Cancel safety
    ///
    /// Safe: dropping the future loses nothing.
    pub async fn drained(&self) {
        self.shared().tracked.gate.drained().await;
    }
}

/// The methods of a group that its spawners have as well.
impl TaskGroup {
    /// Spawns a task that is aborted at the soft deadline of the shutdown; see [`Spawner::spawn`].
    ///
    /// # Errors
    ///
    /// [`Closed`] if the group's shutdown has begun; `task` is dropped then.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn spawn<F>(&self, name: impl Into<Cow<'static, str>>, task: F) -> Result<(), Closed>
    where
        F: Future<Output: TaskOutcome> + Send + 'static,
    {
        self.spawner.spawn(name, task)
    }

    /// Spawns a task that gets a [`TaskStop`], so that it can end when the shutdown begins; see
    /// [`Spawner::spawn_with`].
    ///
    /// # Errors
    ///
    /// The same errors as [`spawn`](Self::spawn).
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn spawn_with<F>(
        &self,
        name: impl Into<Cow<'static, str>>,
        task: impl FnOnce(TaskStop) -> F,
    ) -> Result<(), Closed>
    where
        F: Future<Output: TaskOutcome> + Send + 'static,
    {
        self.spawner.spawn_with(name, task)
    }

    /// Spawns a task that is dropped when the shutdown begins; see [`Spawner::spawn_until_stop`].
    ///
    /// # Errors
    ///
    /// The same errors as [`spawn`](Self::spawn).
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn spawn_until_stop<F>(
        &self,
        name: impl Into<Cow<'static, str>>,
        task: F,
    ) -> Result<(), Closed>
    where
        F: Future<Output: TaskOutcome> + Send + 'static,
    {
        self.spawner.spawn_until_stop(name, task)
    }

    /// Runs a closure on tokio's blocking pool. The group counts and names it like a task; see
    /// [`Spawner::spawn_blocking`].
    ///
    /// # Errors
    ///
    /// The same errors as [`spawn`](Self::spawn).
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn spawn_blocking<T>(
        &self,
        name: impl Into<Cow<'static, str>>,
        task: impl FnOnce(TaskStop) -> T + Send + 'static,
    ) -> Result<(), Closed>
    where
        T: TaskOutcome,
    {
        self.spawner.spawn_blocking(name, task)
    }

    /// Spawns a task that is restarted when it fails; see [`Spawner::supervise`].
    ///
    /// # Errors
    ///
    /// [`Closed`] once the group's shutdown has begun.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn supervise<F>(
        &self,
        name: impl Into<Cow<'static, str>>,
        restart: Restart,
        task: impl FnOnce(TaskStop) -> F + Clone + Send + 'static,
    ) -> Result<Supervised, Closed>
    where
        F: Future<Output: TaskOutcome> + Send + 'static,
    {
        self.spawner.supervise(name, restart, task)
    }

    /// Returns the number of tasks that have not ended.
    pub fn len(&self) -> usize {
        self.spawner.len()
    }

    /// Returns whether every task has ended.
    pub fn is_empty(&self) -> bool {
        self.spawner.is_empty()
    }
}

impl Default for TaskGroup {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for TaskGroup {
    fn drop(&mut self) {
        self.shared().tracked.abort();
    }
}

impl Spawner {
    /// Spawns a task that the shutdown aborts at its soft deadline.
    ///
    /// The task is not told that the shutdown begins. [`spawn_with`](Self::spawn_with) spawns a task that is.
    ///
    /// # Errors
    ///
    /// [`Closed`] if the group's shutdown has begun; `task` is dropped then.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn spawn<F>(&self, name: impl Into<Cow<'static, str>>, task: F) -> Result<(), Closed>
    where
        F: Future<Output: TaskOutcome> + Send + 'static,
    {
        tracked::spawn(&self.shared, name.into(), || task)
    }

    /// Spawns a task, and passes it a [`TaskStop`]. The task sees there that the shutdown has begun, and can end in its
    /// own time.
    ///
    /// # Errors
    ///
    /// The same errors as [`spawn`](Self::spawn).
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn spawn_with<F>(
        &self,
        name: impl Into<Cow<'static, str>>,
        task: impl FnOnce(TaskStop) -> F,
    ) -> Result<(), Closed>
    where
        F: Future<Output: TaskOutcome> + Send + 'static,
    {
        tracked::spawn(&self.shared, name.into(), || task(self.stop()))
    }

    /// Spawns a task that never ends by itself. When the shutdown begins, the task is dropped at the await where it is.
    ///
    /// # Errors
    ///
    /// The same errors as [`spawn`](Self::spawn).
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn spawn_until_stop<F>(
        &self,
        name: impl Into<Cow<'static, str>>,
        task: F,
    ) -> Result<(), Closed>
    where
        F: Future<Output: TaskOutcome> + Send + 'static,
    {
        self.spawn_with(name, |stop| async move {
            let ended = stop.run_until_cancelled(task).await;
            ended.map_or(Ok(()), TaskOutput::into_outcome)
        })
    }

    /// Runs a closure on tokio's blocking pool. The group counts and names it like a task.
    ///
    /// A running closure cannot be aborted. If it still runs at the soft deadline, the report names it, and the group's
    /// step is cut at its hard deadline. So a long closure should check its [`TaskStop`] between two pieces of its
    /// work:
    ///
    /// ```
    /// use lifecycle_runtime::{Component, Context, Reason, TaskGroup};
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), lifecycle_runtime::BoxError> {
    /// # fn compact_one_segment() {}
    /// let mut tasks = TaskGroup::new();
    /// tasks.spawn_blocking("compaction", |stop| {
    ///     while !stop.is_cancelled() {
    ///         compact_one_segment();
    ///     }
    /// })?;
    ///
    /// tasks.cleanup(&Context::new(Reason::Requested, Duration::from_secs(5))).await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The same errors as [`spawn`](Self::spawn).
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn spawn_blocking<T>(
        &self,
        name: impl Into<Cow<'static, str>>,
        task: impl FnOnce(TaskStop) -> T + Send + 'static,
    ) -> Result<(), Closed>
    where
        T: TaskOutcome,
    {
        let stop = self.stop();
        tracked::spawn_blocking(&self.shared, name.into(), || task(stop))
    }

    fn stop(&self) -> TaskStop {
        TaskStop {
            gate: self.shared.tracked.gate.clone(),
        }
    }

    /// Returns the number of tasks that have not ended.
    pub fn len(&self) -> usize {
        self.shared.tracked.gate.in_flight()
    }

    /// Returns whether every task has ended.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl TaskStop {
    /// Waits until the task is told to stop.
    ///
    /// # Cancel safety
    ///
    /// Safe: dropping the future loses nothing.
    pub fn cancelled(&self) -> impl Future<Output = ()> + Send {
        self.gate.closed()
    }

    /// Returns whether the task has been told to stop.
    pub fn is_cancelled(&self) -> bool {
        self.gate.is_closed()
    }

    /// Runs `future` to its end. If the task is told to stop before that, drops the future and returns `None`.
    ///
    /// # Cancel safety
    ///
    /// The cancel safety is that of `future`.
    pub async fn run_until_cancelled<F: Future>(&self, future: F) -> Option<F::Output> {
        let mut future = std::pin::pin!(future);
        let mut cancelled = std::pin::pin!(self.cancelled());
        std::future::poll_fn(|cx| {
            use std::task::Poll;
            if cancelled.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            future.as_mut().poll(cx).map(Some)
        })
        .await
    }
}

impl TaskOwner for Shared {
    type Task = Cow<'static, str>;
    const NOUN: &'static str = "task";

    fn tracked(&self) -> &Tracked<Self::Task> {
        &self.tracked
    }

    fn on_failed(&self, name: &Self::Task, error: BoxError) {
        // The call is contained and holds no lock, since it runs foreign code: the error's `Display` and the log's
        // subscriber.
        let text = contain(|| format!("{name}: {}", Chain(&*error)));
        let text =
            text.unwrap_or_else(|_| format!("{name}: an error that panics when it is displayed"));
        log::task_failed(name, &*error);
        self.failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .add(text);
        if let Some(handle) = &self.handle {
            handle.request(Reason::TaskFailed((&**name).into(), error.into()));
        }
    }
}

impl Shared {
    fn outcome(&self, stragglers: Option<&str>) -> Result<(), BoxError> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let mut texts = failures.texts.clone();
        if failures.more > 0 {
            texts.push(format!("and {} more failed", failures.more));
        }
        drop(failures);
        texts.extend(stragglers.map(|names| format!("aborted at the deadline: {names}")));
        if texts.is_empty() {
            Ok(())
        } else {
            Err(texts.join("; ").into())
        }
    }
}

impl MustClean for TaskGroup {}
impl MustClean for &TaskGroup {}

impl Component for &TaskGroup {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        let stragglers = tracked::drain(self.shared(), cx).await;
        self.shared().outcome(stragglers)
    }

    fn abort(&mut self) {
        self.shared().tracked.abort();
    }
}

impl Component for TaskGroup {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        Component::cleanup(&mut &*self, cx).await
    }

    fn abort(&mut self) {
        Component::abort(&mut &*self);
    }

    fn release(&mut self) {
        Component::abort(&mut &*self);
    }
}

impl fmt::Debug for TaskGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskGroup")
            .field("tasks", &self.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Spawner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spawner")
            .field("tasks", &self.len())
            .finish_non_exhaustive()
    }
}

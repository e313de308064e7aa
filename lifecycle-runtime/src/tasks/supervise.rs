//! Supervised tasks, which are restarted when they fail.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::restart::{History, Restart};
use super::{Spawner, TaskStop};
use crate::engine::contain;
use crate::gate::Closed;
use crate::reason::Chain;
use crate::{BoxError, TaskOutcome, TaskOutput, log};

/// A view of a supervised task, from [`Spawner::supervise`]. Clones are cheap, and do not keep the task alive.
#[derive(Clone)]
pub struct Supervised {
    name: Cow<'static, str>,
    status: watch::Receiver<Status>,
}

/// The state of a supervised task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskState {
    /// The task runs.
    Running,
    /// The task has failed, and will be restarted after a wait.
    Waiting,
    /// The task has failed too often, and is not restarted any more.
    GivenUp,
    /// The task ended by itself, or the shutdown ended it.
    Ended,
}

#[derive(Debug)]
struct Status {
    state: TaskState,
    restarts: u64,
    failure: Option<Arc<str>>,
}

impl Spawner {
    /// Spawns a task that is restarted when it fails, according to `restart`.
    ///
    /// Each run calls a clone of `task`, so it begins with the values that the closure captured originally. A failure
    /// that leads to a restart is logged as `task_restart`, and does not make the report unclean. A task that fails
    /// once more after the limit of restarts is not restarted any more, and counts as failed like any other task of its
    /// group. In a [`critical`](crate::TaskGroup::critical) group this begins the shutdown, with this task as the
    /// [reason](crate::Reason::TaskFailed). In any other group only the log and the report show it.
    ///
    /// Once the shutdown has begun, no task is restarted. A task that waits for its restart ends at once. A run that
    /// fails after that is a failure in the report.
    ///
    /// ```
    /// use lifecycle_runtime::{BoxError, Restart, ShutdownHandle, TaskGroup, TaskState};
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), BoxError> {
    /// let handle = ShutdownHandle::new();
    /// let tasks = TaskGroup::critical(&handle);
    /// let restart = Restart::on_failure().at_most(2, Duration::from_secs(60));
    /// let mut feed = tasks.supervise("feed", restart, async |stop| {
    ///     // It would read the feed until `stop` fires.
    ///     assert!(!stop.is_cancelled());
    ///     Err::<(), _>("the feed is gone")
    /// })?;
    ///
    /// let reason = handle.requested().await;
    /// assert_eq!(
    ///     reason.to_string(),
    ///     "feed failed: given up after 2 restarts within 60s: the feed is gone"
    /// );
    /// assert_eq!((feed.state(), feed.restarts()), (TaskState::GivenUp, 2));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Closed`] once the group's shutdown has begun.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime. On a runtime without a timer the task is not restarted after its first failure.
    pub fn supervise<F>(
        &self,
        name: impl Into<Cow<'static, str>>,
        restart: Restart,
        task: impl FnOnce(TaskStop) -> F + Clone + Send + 'static,
    ) -> Result<Supervised, Closed>
    where
        F: Future<Output: TaskOutcome> + Send + 'static,
    {
        let name = name.into();
        let (status, watched) = watch::channel(Status {
            state: TaskState::Running,
            restarts: 0,
            failure: None,
        });
        let supervisor = Supervisor {
            name: name.clone(),
            restart,
            status,
        };
        self.spawn_with(name.clone(), |stop| supervisor.run(task, stop))?;
        Ok(Supervised {
            name,
            status: watched,
        })
    }
}

/// The loop that runs a supervised task again and again. Dropping this value sets the state to [`TaskState::Ended`].
struct Supervisor {
    name: Cow<'static, str>,
    restart: Restart,
    status: watch::Sender<Status>,
}

impl Supervisor {
    async fn run<F>(
        self,
        task: impl FnOnce(TaskStop) -> F + Clone,
        stop: TaskStop,
    ) -> Result<(), BoxError>
    where
        F: Future<Output: TaskOutcome>,
    {
        let mut history = History::default();
        loop {
            let began = Instant::now();
            let run = contain(|| task.clone()(stop.clone()));
            let ended = match run {
                Ok(run) => finish(run).await,
                Err(message) => Err(panicked(message)),
            };
            if stop.is_cancelled() {
                return ended;
            }
            let error = match ended {
                Ok(()) if !self.restart.is_always() => return Ok(()),
                Ok(()) => "it ended, though it should run until the shutdown".into(),
                Err(error) => error,
            };
            let Some(wait) = history.wait(&self.restart, began, Instant::now()) else {
                return Err(self.give_up(error));
            };
            self.failed(&*error, wait);
            if stop.run_until_cancelled(sleep(wait)).await.is_none() {
                return Ok(());
            }
            self.status.send_modify(|status| {
                status.state = TaskState::Running;
                status.restarts += 1;
            });
        }
    }

    fn failed(&self, error: &(dyn Error + 'static), wait: Duration) {
        let failure: Arc<str> = Chain(error).to_string().into();
        self.status.send_modify(|status| {
            status.state = TaskState::Waiting;
            status.failure = Some(failure);
        });
        let restarts = self.status.borrow().restarts;
        // The call is contained, since the log's subscriber is foreign code.
        let _ = contain(|| log::task_restart(&self.name, error, restarts, wait));
    }

    fn give_up(&self, error: BoxError) -> BoxError {
        let failure: Arc<str> = Chain(&*error).to_string().into();
        self.status.send_modify(|status| {
            status.state = TaskState::GivenUp;
            status.failure = Some(failure);
        });
        let (restarts, per) = self.restart.limit();
        Box::new(GivenUp {
            restarts,
            per,
            error,
        })
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.status.send_if_modified(|status| {
            let ended = status.state != TaskState::GivenUp;
            if ended {
                status.state = TaskState::Ended;
            }
            ended
        });
    }
}

fn panicked(message: String) -> BoxError {
    format!("panicked: {message}").into()
}

/// Waits for the end of a run. A panic of the run, or of its drop, becomes an error.
async fn finish(run: impl Future<Output: TaskOutcome>) -> Result<(), BoxError> {
    let mut run = pin!(Some(run));
    let ended = poll_fn(|cx| {
        let Some(run) = run.as_mut().as_pin_mut() else {
            return Poll::Ready(Ok(()));
        };
        match contain(|| run.poll(cx).map(TaskOutput::into_outcome)) {
            Ok(polled) => polled,
            Err(message) => Poll::Ready(Err(panicked(message))),
        }
    });
    let ended = ended.await;
    let dropped = contain(|| run.set(None)).map_err(panicked);
    ended.and(dropped)
}

/// An error: a task failed more often than its limit allows. The error's source is the last failure.
#[derive(Debug)]
struct GivenUp {
    restarts: u32,
    per: Duration,
    error: BoxError,
}

impl fmt::Display for GivenUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { restarts, per, .. } = self;
        match restarts {
            0 => f.write_str("given up without a restart"),
            1 => write!(f, "given up after 1 restart within {per:?}"),
            _ => write!(f, "given up after {restarts} restarts within {per:?}"),
        }
    }
}

impl Error for GivenUp {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.error)
    }
}

impl Supervised {
    /// Returns the name of the task.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the state of the task.
    pub fn state(&self) -> TaskState {
        self.status.borrow().state
    }

    /// Returns how often the task was restarted.
    pub fn restarts(&self) -> u64 {
        self.status.borrow().restarts
    }

    /// Returns the last error or panic after which the task was restarted or was not restarted any more, as text.
    /// `None` if there was none.
    pub fn last_failure(&self) -> Option<Arc<str>> {
        self.status.borrow().failure.clone()
    }

    /// Waits until the task's state has changed since the last call. Returns `false` once the state cannot change any
    /// more.
    ///
    /// Several changes in quick succession may be reported as a single change.
    ///
    /// # Cancel safety
    ///
    /// Safe: dropping the future loses no change.
    pub async fn changed(&mut self) -> bool {
        self.status.changed().await.is_ok()
    }
}

impl fmt::Debug for Supervised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.status.borrow();
        f.debug_struct("Supervised")
            .field("name", &self.name)
            .field("state", &status.state)
            .field("restarts", &status.restarts)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Waiting => "waiting to be restarted",
            Self::GivenUp => "given up",
            Self::Ended => "ended",
        })
    }
}

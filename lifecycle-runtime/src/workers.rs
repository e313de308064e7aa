//! Threads with a runtime of their own, on which tasks stay.

use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

use crate::foreign::until::pause;
use crate::{BoxError, Component, Context, MustClean, clock};

/// How often the cleanup looks whether the last task has ended, which tokio tells nobody.
const LOOK: Duration = Duration::from_millis(1);

/// Threads with a current-thread tokio runtime each. A task stays on the thread where it was spawned.
///
/// On tokio's multi-thread runtime a task moves from thread to thread, and its memory and its sockets from one
/// processor's cache to the next. A task of a worker stays on its thread. With that a reverse proxy on two processors
/// answered a quarter more requests.
///
/// The price: if a task computes for long, the other tasks of its thread wait, and no other thread takes them over. So
/// spread many small tasks, such as connections. `lifecycle-http` does that with `HttpBuilder::runtimes`. Every task
/// that such a task spawns by `tokio::spawn` belongs to the same worker.
///
/// # Shutdown
///
/// The cleanup waits until no task is left on the workers, ends the threads, and waits for calls on their blocking pools
/// (`spawn_blocking`). So give it a later step than all components whose tasks run there. If tasks are left at
/// [`Context::deadline`], they are dropped, and the step fails and tells how many they were. If calls are left, they are
/// left behind, and the step fails. A cleanup that runs on one of these workers itself would wait for its own task, so
/// run it elsewhere.
///
/// If the value is dropped, the threads drop their tasks and end, and nothing waits for them.
///
/// Workers keep real time, even if the clock of the runtime that cleans them is paused.
///
/// # Cancel safety
///
/// The cleanup is cancel-safe.
///
/// # Examples
///
/// ```
/// use lifecycle_runtime::{GracefulShutdown, ShutdownState, TaskGroup, Workers};
/// use std::num::NonZeroUsize;
///
/// #[derive(GracefulShutdown)]
/// struct Server {
///     #[shutdown(priority = 10)]
///     tasks: TaskGroup,
///     #[shutdown(priority = 20, timeout = "1s")] // after everything that runs on them
///     workers: Workers,
///     #[shutdown(state)]
///     state: ShutdownState,
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let mut server = Server {
///     tasks: TaskGroup::new(),
///     workers: Workers::start(NonZeroUsize::new(2).unwrap())?,
///     state: ShutdownState::new(),
/// };
/// for worker in server.workers.handles() {
///     let _on_worker = worker.enter(); // from here on, `spawn` means this runtime
///     server.tasks.spawn("greet", async { println!("hello") }).unwrap();
/// }
/// assert!(server.shutdown().await.is_clean());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[doc(alias("threads", "thread_per_core", "worker_threads"))]
pub struct Workers {
    handles: Arc<[Handle]>,
    threads: Vec<Thread>,
    /// What the cleanup lost. It is kept for a cleanup that runs once more.
    lost: Lost,
}

/// The work that was lost at the end of a thread, or of several.
#[derive(Clone, Copy, Debug, Default)]
struct Lost {
    /// The number of tasks that were dropped.
    tasks: usize,
    /// The number of threads whose blocking pool still ran a call.
    pools: usize,
}

/// The ends of a worker's thread.
#[derive(Debug)]
struct Thread {
    /// The sender of the time that the blocking pool has to end. The thread ends when it is sent, and at once when the
    /// sender is dropped.
    stop: Option<oneshot::Sender<Duration>>,
    /// What the thread lost; `None` once it has come.
    ended: Option<oneshot::Receiver<Lost>>,
}

impl Workers {
    /// Starts this number of threads. They are named `worker-0`, `worker-1`, and so on.
    ///
    /// # Errors
    ///
    /// When the system refuses a thread or the descriptors of its runtime. The threads that were started end then.
    pub fn start(threads: NonZeroUsize) -> io::Result<Self> {
        let started = (0..threads.get()).map(start);
        let (handles, threads): (Vec<_>, _) =
            started.collect::<io::Result<Vec<_>>>()?.into_iter().unzip();
        Ok(Self {
            handles: handles.into(),
            threads,
            lost: Lost::default(),
        })
    }

    /// Returns the handles of the runtimes, one for each thread. Once the workers have ended, a task that is spawned by
    /// such a handle is dropped at once.
    pub fn handles(&self) -> &[Handle] {
        &self.handles
    }

    /// Returns how many tasks there are on all workers.
    pub fn tasks(&self) -> usize {
        tasks(&self.handles)
    }

    fn stop(&mut self) {
        for thread in &mut self.threads {
            thread.stop = None;
        }
    }
}

/// Starts the thread with this number, and waits until its runtime is there. The runtime is made and dropped by its own
/// thread, since tokio panics when a runtime is dropped inside another.
fn start(number: usize) -> io::Result<(Handle, Thread)> {
    let (stop, stopped) = oneshot::channel();
    let (ends, ended) = oneshot::channel();
    let (tells, told) = mpsc::channel();
    thread::Builder::new()
        .name(format!("worker-{number}"))
        .spawn(move || {
            let blocking = Arc::new(AtomicUsize::new(0));
            let runtime = match runtime(&blocking) {
                Ok(runtime) => runtime,
                Err(error) => {
                    // Sending cannot fail, since the caller waits.
                    let _ = tells.send(Err(error));
                    return;
                }
            };
            let _ = tells.send(Ok(runtime.handle().clone()));
            // An error means that the `Workers` were dropped, so that nobody waits.
            let given = runtime.block_on(stopped).unwrap_or_default();
            let tasks = runtime.metrics().num_alive_tasks();
            runtime.shutdown_timeout(given);
            let pools = usize::from(blocking.load(Ordering::Acquire) > 0);
            // Sending fails if nobody waits for the end.
            let _ = ends.send(Lost { tasks, pools });
        })?;
    let handle = told.recv().map_err(io::Error::other)??;
    let thread = Thread {
        stop: Some(stop),
        ended: Some(ended),
    };
    Ok((handle, thread))
}

/// Makes the runtime of a worker. `blocking` counts the threads of its blocking pool, which tokio starts for calls and ends
/// with the runtime.
fn runtime(blocking: &Arc<AtomicUsize>) -> io::Result<Runtime> {
    let (starts, ends) = (Arc::clone(blocking), Arc::clone(blocking));
    Builder::new_current_thread()
        .enable_all()
        .on_thread_start(move || {
            starts.fetch_add(1, Ordering::Relaxed);
        })
        .on_thread_stop(move || {
            ends.fetch_sub(1, Ordering::Release);
        })
        .build()
}

impl MustClean for Workers {}

impl Component for Workers {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        let handles = Arc::clone(&self.handles);
        cx.waiting_for(move || format!("{} on the workers", counted(tasks(&handles))));
        while self.tasks() > 0 && clock::now() < cx.deadline() {
            pause(LOOK).await;
        }
        // If the tasks took all the time, the pools have half of the reserve, since the threads of an idle pool need a
        // moment, too.
        let left = |deadline: Instant| deadline.saturating_duration_since(clock::now());
        let left = left(cx.deadline()).max(left(cx.hard_deadline()) / 2);
        for thread in &mut self.threads {
            if let Some(stop) = thread.stop.take() {
                // Sending cannot fail, since the thread waits for it.
                let _ = stop.send(left);
            }
        }
        cx.waiting_for(|| "calls on the blocking pools of the workers".to_owned());
        for thread in &mut self.threads {
            if let Some(ended) = &mut thread.ended {
                // An error would mean that the thread panicked, but tokio contains the panics of tasks.
                let lost = ended.await.unwrap_or(Lost { tasks: 1, pools: 0 });
                self.lost.tasks += lost.tasks;
                self.lost.pools += lost.pools;
                thread.ended = None;
            }
        }
        self.lost.into_result()
    }

    fn abort(&mut self) {
        self.stop();
    }

    fn release(&mut self) {
        self.stop();
    }
}

impl Lost {
    fn into_result(self) -> Result<(), BoxError> {
        let tasks = (self.tasks > 0).then(|| {
            format!(
                "dropped {} that still ran on the workers",
                counted(self.tasks)
            )
        });
        let calls = (self.pools > 0).then(|| {
            let workers = if self.pools == 1 {
                "a worker"
            } else {
                "several workers"
            };
            format!("left behind calls on the blocking pool of {workers}")
        });
        match (tasks, calls) {
            (None, None) => Ok(()),
            (Some(only), None) | (None, Some(only)) => Err(only.into()),
            (Some(tasks), Some(calls)) => Err(format!("{tasks}, {calls}").into()),
        }
    }
}

fn tasks(handles: &[Handle]) -> usize {
    let tasks = |handle: &Handle| handle.metrics().num_alive_tasks();
    handles.iter().map(tasks).sum()
}

fn counted(tasks: usize) -> String {
    let s = if tasks == 1 { "" } else { "s" };
    format!("{tasks} task{s}")
}

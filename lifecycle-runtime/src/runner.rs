//! Runs a server: signals, main, the plan, the exit code.

mod guard;
mod main_task;
mod stop;

use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{fmt, io};

use tokio::sync::oneshot;

use crate::context::after;
use crate::engine::{Live, Origin, Times, contain};
use crate::plan::UNSTATED;
use crate::state::{self, DEFAULT_TIMEOUT};
use crate::{GracefulShutdown, Reason, Report, ShutdownHandle, TaskOutcome, clock, log};

use guard::Guard;
use main_task::MainTask;
pub use stop::Stop;

/// How long the `finally` hooks have, together; and how long [`Runner::block_on`] waits for what its
/// runtime's drop waits for.
const FINALLY: Duration = Duration::from_secs(1);

/// Runs a server until it is told to stop, then shuts it down: [`Runner::run`] with no options.
///
/// `main` gets the server and a [`Stop`]; it should serve until `stop` fires, finish what it has
/// begun, and return. It is awaited as the step `main`, before the plan.
///
#[cfg_attr(feature = "derive", doc = "```no_run")]
#[cfg_attr(not(feature = "derive"), doc = "```ignore")]
/// use lifecycle_runtime::{BoxError, GracefulShutdown, Report, ShutdownState, run};
/// use tokio::net::TcpListener;
/// use tokio_util::task::TaskTracker;
///
/// #[derive(GracefulShutdown)]
/// struct Server {
///     #[shutdown(timeout = "20s")]
///     connections: TaskTracker,
///     #[shutdown(state)]
///     state: ShutdownState,
/// }
///
/// #[tokio::main]
/// async fn main() -> Report {
///     let server = Server {
///         connections: TaskTracker::new(),
///         state: ShutdownState::new(),
///     };
///     run(server, async |server, stop| {
///         let listener = TcpListener::bind("127.0.0.1:0").await?;
///         loop {
///             tokio::select! {
///                 accepted = listener.accept() => {
///                     let (socket, _) = accepted?;
///                     server.connections.spawn(async move { drop(socket) });
///                 }
///                 () = stop.cancelled() => return Ok::<_, BoxError>(()),
///             }
///         }
///     })
///     .await
/// }
/// ```
///
/// A main whose last expression is `Ok(())` has to name its error, as here: the compiler cannot tell
/// it from the `?`s before it.
pub async fn run<S, M, T>(server: S, main: M) -> Report
where
    S: GracefulShutdown,
    M: AsyncFnOnce(&mut S, Stop) -> T,
    T: TaskOutcome,
{
    Runner::new(server).run(main).await
}

/// Waits for a signal, then shuts the server down: for a server whose work is all in tasks of its own.
pub async fn run_until_signal<S: GracefulShutdown>(server: S) -> Report {
    Runner::new(server).run_until_signal().await
}

/// Runs a server, with options.
///
/// What happens, in order:
///
/// 1. Signals are registered, before main starts. SIGTERM, SIGINT, SIGQUIT and SIGHUP begin the
///    shutdown; so do main's end, error or panic, and a [`ShutdownHandle`].
/// 2. [`Stop`] fires. Main is awaited until the plan needs the rest of the time, then dropped; a main
///    that never looked at its `Stop` is dropped at once.
/// 3. The plan runs, then the [`finally`](Self::finally) hooks, and the report is returned.
///
/// A signal within 500 ms of the first is the same request, as terminals and process managers send
/// several. A later one forces the end, from a thread of its own that a blocked executor cannot hold
/// up: it runs every [`on_force`](crate::Context::on_force) hook, gives the engine 1 s to abort what
/// runs, says on stderr what was not done, and exits with 128 and the signal's number. It goes on
/// listening after [`run`](Self::run) has returned, while the runtime is dropped.
///
/// With `panic = "abort"` no panic can be contained.
#[must_use = "a runner does nothing until `run`, `run_until_signal` or `block_on`"]
pub struct Runner<S> {
    server: S,
    handle: ShutdownHandle,
    finally: Vec<Finally>,
    exit_code: Option<ExitCode>,
}

type Finally = Box<dyn FnOnce(&Report) + Send>;
type ExitCode = Box<dyn FnOnce(&Report) -> u8 + Send>;

impl<S: GracefulShutdown> Runner<S> {
    /// Runs this server.
    pub fn new(server: S) -> Self {
        Self {
            server,
            handle: ShutdownHandle::new(),
            finally: Vec::new(),
            exit_code: None,
        }
    }

    /// Lets this handle begin the shutdown and watch it.
    pub fn handle(mut self, handle: &ShutdownHandle) -> Self {
        self.handle = handle.clone();
        self
    }

    /// Runs `hook` after the plan, with the report: to flush logs and traces, last of all.
    ///
    /// Hooks are synchronous and run one after the other on a thread of their own, in the order they
    /// were given; together they have 1 s, then they are left behind. Their panics are contained.
    pub fn finally(mut self, hook: impl FnOnce(&Report) + Send + 'static) -> Self {
        self.finally.push(Box::new(hook));
        self
    }

    /// Chooses the exit code. The default is [`Report::exit_code`].
    pub fn exit_code(mut self, code: impl FnOnce(&Report) -> u8 + Send + 'static) -> Self {
        self.exit_code = Some(Box::new(code));
        self
    }

    /// Runs `main` until it ends or the shutdown is asked for, then shuts the server down.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it drops main and the server; the server's `Drop` logs what was not cleaned.
    pub async fn run<M, T>(self, main: M) -> Report
    where
        M: AsyncFnOnce(&mut S, Stop) -> T,
        T: TaskOutcome,
    {
        let Self {
            mut server,
            handle,
            finally,
            exit_code,
        } = self;
        let guard = Guard::arm(&handle).await;
        let times = Times::of(&server, &S::PLAN);
        let total = times.total.unwrap_or(DEFAULT_TIMEOUT);
        let longest = times.longest(&S::PLAN, total);
        let (stop, firing) = stop::pair();
        let live = {
            let main = pin!(Some(main(&mut server, stop)));
            let mut main = MainTask::new(main);
            let reason = main.until(&handle).await;
            let live = begin::<S>(&handle, reason, total);
            // Main counts 1 s, as a step that states nothing does.
            let reserve = shrunk(longest, longest.saturating_add(UNSTATED), total);
            let latest = live
                .deadline
                .checked_sub(reserve)
                .unwrap_or(live.origin.began);
            main.finish(&live, latest, &firing).await;
            live
        };
        let report = conduct(&mut server, live, &handle).await;
        end(server, report, guard, finally, exit_code).await
    }

    /// Waits for a signal or the handle, then shuts the server down.
    ///
    /// # Cancel safety
    ///
    /// As [`run`](Self::run).
    pub async fn run_until_signal(self) -> Report {
        let Self {
            mut server,
            handle,
            finally,
            exit_code,
        } = self;
        let guard = Guard::arm(&handle).await;
        let reason = handle.requested().await;
        let total = state::total(&server);
        let live = begin::<S>(&handle, reason, total);
        let report = conduct(&mut server, live, &handle).await;
        end(server, report, guard, finally, exit_code).await
    }

    /// [`run`](Self::run) on a multi-threaded runtime of its own, whose drop is bounded too: a stuck
    /// `spawn_blocking` is left behind after 1 s.
    ///
    /// # Panics
    ///
    /// If it is called on a thread that drives a runtime already.
    pub fn block_on<M, T>(self, main: M) -> Report
    where
        M: AsyncFnOnce(&mut S, Stop) -> T,
        T: TaskOutcome,
    {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => {
                let reason = Reason::StartFailed(Arc::new(error));
                return Report::new(S::PLAN.name(), reason, Duration::ZERO, None, Vec::new());
            }
        };
        let report = runtime.block_on(self.run(main));
        runtime.shutdown_timeout(FINALLY);
        report
    }
}

impl<S> fmt::Debug for Runner<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner")
            .field("handle", &self.handle)
            .finish_non_exhaustive()
    }
}

/// What `part` of what is needed gets of what is given.
fn shrunk(part: Duration, needed: Duration, given: Duration) -> Duration {
    if needed <= given {
        part
    } else {
        part.mul_f64(given.as_secs_f64() / needed.as_secs_f64())
    }
}

/// Starts the clock.
fn begin<S: GracefulShutdown>(
    handle: &ShutdownHandle,
    reason: Reason,
    total: Duration,
) -> Arc<Live> {
    let now = clock::now();
    log::begin(S::PLAN.name(), &reason, None, total);
    let live = Live::root(S::PLAN.name(), Origin::new(reason, now), after(now, total));
    handle.runs(&live);
    live
}

/// Runs the plan on the clock that was started, or what main has left of it.
async fn conduct<S: GracefulShutdown>(
    server: &mut S,
    live: Arc<Live>,
    handle: &ShutdownHandle,
) -> Report {
    let resumed = state::resume(server, Arc::clone(&live));
    handle.runs(&resumed);
    let report = state::conduct(server, &resumed).await;
    if Arc::ptr_eq(&resumed, &live) {
        return report;
    }
    // Main shut the server down itself, so that its own row is on a clock of its own.
    live.finish_empty(clock::now());
    live.report()
        .map_or(report.clone(), |main| report.preceded_by(main.steps()))
}

async fn end<S>(
    server: S,
    report: Report,
    guard: Guard,
    finally: Vec<Finally>,
    exit_code: Option<ExitCode>,
) -> Report {
    // A forced end is no longer the program's to name.
    let chosen = exit_code.filter(|_| report.forced().is_none());
    let code = chosen.and_then(|code| contain(|| code(&report)).ok());
    let report = match code {
        Some(code) => report.with_exit_code(code),
        None => report,
    };
    log::end(&report, report.exit_code());
    // Before the hooks, so that they flush what its drop still says.
    let _ = contain(|| drop(server));
    run_finally(&report, finally).await;
    drop(guard);
    report
}

async fn run_finally(report: &Report, hooks: Vec<Finally>) {
    if hooks.is_empty() {
        return;
    }
    let (ended, end) = oneshot::channel();
    let told = report.clone();
    // Real time, since hooks block real threads: a paused clock would leave them behind at once.
    let spawned = spawn("lifecycle-finally", move || {
        let (ends, in_time) = mpsc::channel::<()>();
        let hooks = spawn("lifecycle-hooks", move || {
            for hook in hooks {
                if let Err(message) = contain(|| hook(&told)) {
                    log::finally_panicked(&message);
                }
            }
            drop(ends);
        });
        let in_time =
            hooks.map(|_| in_time.recv_timeout(FINALLY) != Err(RecvTimeoutError::Timeout));
        // The runner may have left.
        let _ = ended.send(in_time);
    });
    match spawned.map(|_| end) {
        Err(error) => log::no_thread("the `finally` hooks", &error),
        Ok(end) => match end.await {
            Ok(Ok(true)) | Err(_) => {}
            Ok(Ok(false)) => log::finally_left(),
            Ok(Err(error)) => log::no_thread("the `finally` hooks", &error),
        },
    }
}

fn spawn(name: &str, f: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.into()).spawn(f)
}

//! The runner of a server: it listens for signals, runs main, then runs the plan, and chooses the exit code.

mod end;
mod exit_codes;
mod failed_start;
mod force;
mod grace;
mod guard;
mod lame_duck;
mod main_task;
mod options;
mod sequence;
mod signals;
mod source;
mod start;
mod stop;

use std::borrow::Cow;
use std::fmt;
use std::future::{Future, Ready};
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use crate::report::Cut;
use crate::{
    BoxError, GracefulShutdown, Readiness, Reason, Report, ShutdownHandle, Signal, TaskOutcome,
};

pub use exit_codes::ExitCodes;
pub use failed_start::FailedStart;
pub use grace::{Grace, InvalidGrace};
pub use options::SecondSignal;
use options::{END_TIMEOUT, Options};
use sequence::run_sequence;
use source::{Given, Source, Start};
pub use stop::Stop;

/// Runs a server until a shutdown is requested, then shuts it down. This is [`Runner::run`] without options.
///
/// `main` gets the server and a [`Stop`]. It should serve until `stop` fires, finish the work that it has begun, and
/// return. In the report, the wait for `main` is the step `main`, before the plan.
///
#[cfg_attr(feature = "derive", doc = "```no_run")]
#[cfg_attr(not(feature = "derive"), doc = "```ignore")]
/// use lifecycle_runtime::{BoxError, GracefulShutdown, Report, ShutdownState, run};
/// use tokio::net::TcpListener;
/// use tokio_util::task::TaskTracker;
///
/// #[derive(GracefulShutdown)]
/// #[shutdown(strict)]
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
/// # Common errors
///
/// - *type annotations needed*, in `run(server, |server, stop| async move { … })`: main is an async closure, which
///   may borrow the server. Write `run(server, async |server, stop| { … })`.
/// - *type annotations needed for `Result<(), _>`*: if the last expression of main is `Ok(())`, it must name its
///   error, as in the example, since the compiler cannot infer it from the `?`s before.
/// - *the `?` operator can only be applied to values that implement `Try`*, in `run(…).await?`: `run` always returns
///   a [`Report`]. Write `run(…).await.into_result()?`, or return the report from `main`, which turns it into the
///   exit code.
#[doc(alias("signal", "sigterm", "ctrl_c", "graceful"))]
pub async fn run<S, M, T>(server: S, main: M) -> Report
where
    S: GracefulShutdown,
    M: AsyncFnOnce(&mut S, Stop) -> T,
    T: TaskOutcome,
{
    Runner::new(server).run(main).await
}

/// Waits for a signal, then shuts the server down. Use this for a server whose work runs in its own tasks.
pub async fn run_until_signal<S: GracefulShutdown>(server: S) -> Report {
    Runner::new(server).run_until_signal().await
}

/// A runner of a server, with options. It serves until a shutdown is requested, and then shuts the server down.
///
/// The order of events:
///
/// 1. Signals are registered, before the server is [built](Self::build) and before main starts. SIGTERM, SIGINT,
///    SIGQUIT and SIGHUP request the shutdown, unless they are [hooked](Self::on_signal). The shutdown is also
///    requested by main's end, error or panic, by a [`ShutdownHandle`], and by a failed task of a
///    [critical](crate::TaskGroup::critical) group. A start that is running when the shutdown is requested is told to
///    stop, and has a bounded time to return the server that it built.
/// 2. [`Readiness`] turns to draining. During the [lame duck](Self::lame_duck) main continues to serve, while
///    [deregistration](Self::deregister) runs at the same time.
/// 3. [`Stop`] fires. The runner waits for main until only the time that the plan's steps need is left of the plan's
///    timeout, and then drops main. A main that never called a method of its `Stop` is dropped at once.
/// 4. The plan runs. Then the server is dropped (with a row `drop`, if that took a millisecond or panicked), and the
///    tasks that the runtime still has are counted. The [`finally`](Self::finally) hooks run (with a row `finally`,
///    if they did not end well), and the report is returned.
///
/// A signal within 500 ms of the last one counts as the same request, since terminals and process managers send
/// several. A second signal [hurries](ShutdownHandle::hurry) the shutdown: the start, the lame duck, main and
/// `best_effort` steps are cut, and the rest of the plan runs with its own time limits. A third signal forces the end
/// ([`second_signal`](Self::second_signal) changes that).
///
/// The forced end runs on its own thread, so a blocked executor cannot delay it. It runs every
/// [`on_force`](crate::Context::on_force) hook for up to 1 s, gives the engine 1 s to abort the running steps, prints
/// to stderr which steps were not done, and exits with 128 plus the signal's number. A signal can still force the end
/// after [`run`](Self::run) has returned, while the runtime is dropped. The [watchdog](Self::watchdog) ends the process
/// in the same way, with exit code 70, when the process lives longer than it is allowed to.
///
/// With `panic = "abort"` no panic can be contained.
#[must_use = "a runner does nothing until `run`, `run_until_signal` or `block_on`"]
pub struct Runner<S, B = Given<S>> {
    source: B,
    options: Options,
    server: PhantomData<fn() -> S>,
}

impl<S: GracefulShutdown> Runner<S> {
    /// Creates a runner for this server.
    pub fn new(server: S) -> Self {
        Self::with(Given(server))
    }

    /// Creates a runner that calls `start` to build the server, once signals are registered.
    ///
    /// `start` gets a [`Stop`] of its own, which fires when a shutdown is requested while the start runs. The start
    /// then has 5 s ([`start_stop_timeout`](Self::start_stop_timeout)) to return. If it returns a server, the plan
    /// cleans the server, and main does not run. If it returns an error, that error is the outcome of the step `start`.
    /// If it does not return, it is dropped, and its step has timed out. It makes no difference whether the start waits
    /// for its `Stop` or for [`ShutdownHandle::requested`]. Tasks that the start spawned may keep its `Stop`: once the
    /// server is built, this `Stop` fires together with main's.
    ///
    /// A start that fails without being told to stop ends with [`Reason::StartFailed`] and exit code 1. The values that
    /// it had built are released by their own drops. If the error is a [`FailedStart`] that holds these values, they
    /// are cleaned in plan order instead. A struct with a `ShutdownState` that the start drops without shutting it
    /// down gets a row below `start`, and the report is not clean.
    ///
    #[cfg_attr(feature = "derive", doc = "```")]
    #[cfg_attr(not(feature = "derive"), doc = "```ignore")]
    /// use lifecycle_runtime::{BoxError, GracefulShutdown, Runner, ShutdownState, Stop, TaskGroup};
    ///
    /// #[derive(GracefulShutdown)]
    /// #[shutdown(strict)]
    /// struct Server {
    ///     #[shutdown]
    ///     tasks: TaskGroup,
    ///     #[shutdown(state)]
    ///     state: ShutdownState,
    /// }
    ///
    /// async fn connect() -> Result<(), BoxError> {
    ///     Ok(())
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let start = async |stop: Stop| {
    ///     let server = Server { tasks: TaskGroup::new(), state: ShutdownState::new() };
    ///     tokio::select! {
    ///         connected = connect() => connected?,
    ///         // The shutdown cleans what was built so far.
    ///         () = stop.cancelled() => {}
    ///     }
    ///     Ok::<_, BoxError>(server)
    /// };
    /// let report = Runner::build(start).run(async |_: &mut Server, _: Stop| ()).await;
    /// assert!(report.is_clean());
    /// # }
    /// ```
    ///
    /// # Common errors
    ///
    /// - *closure is expected to take 1 argument, but it takes 0 arguments*: write `async |_| …` if the start does
    ///   not use its `Stop`.
    pub fn build<F, E>(start: F) -> Runner<S, Start<F, E>>
    where
        F: AsyncFnOnce(Stop) -> Result<S, E>,
        E: Into<BoxError>,
    {
        Runner::with(Start(start, PhantomData))
    }
}

impl<S, B> Runner<S, B> {
    fn with(source: B) -> Self {
        Self {
            source,
            options: Options::default(),
            server: PhantomData,
        }
    }

    /// Connects `handle` to this runner. The handle can then request the shutdown and show its progress.
    pub fn handle(mut self, handle: &ShutdownHandle) -> Self {
        self.options.handle = handle.clone();
        self
    }

    /// Connects a [`Readiness`], which this runner then sets: to draining when the shutdown begins, and to stopped
    /// after it.
    pub fn readiness(mut self, readiness: &Readiness) -> Self {
        self.options.readiness = Some(readiness.clone());
        self
    }

    /// Sets the lame duck: the time for which main continues to serve after a shutdown was requested, because load
    /// balancers (such as a Kubernetes Service) notice the shutdown late. The default is none. The lame duck is skipped
    /// for Ctrl-C (SIGINT), and when main has ended.
    pub fn lame_duck(mut self, minimum: Duration) -> Self {
        self.options.lame_duck.minimum = minimum;
        self
    }

    /// Adds a hook that runs when the shutdown begins, while main still serves. It may deregister the server from
    /// discovery, for example.
    ///
    /// All such hooks run at the same time, within the lame duck or 5 s, whichever is longer. Each hook has its own row
    /// in the report, below `lame_duck`. A failed hook leaves the report clean.
    pub fn deregister<F>(
        mut self,
        name: impl Into<Cow<'static, str>>,
        hook: impl FnOnce() -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output: TaskOutcome> + Send + 'static,
    {
        self.options.lame_duck.hook(name.into(), hook);
        self
    }

    /// Sets the time that the platform gives the process to end. When the server starts, this time is compared with
    /// what the shutdown may need: the lame duck, the plan's time limit, the time of the [`finally`](Self::finally)
    /// hooks, and 1 s for everything else. A shortfall is logged as `grace_short`.
    ///
    /// `grace` is a literal such as `"30s"`, a [`Duration`], or a [`Grace`] that was parsed from a setting.
    ///
    /// # Panics
    ///
    /// If a literal is not a duration. The program then ends before its server runs, and the message describes the
    /// error.
    #[track_caller]
    pub fn grace(mut self, grace: impl TryInto<Grace, Error: fmt::Display>) -> Self {
        match grace.try_into() {
            Ok(grace) => self.options.grace = Some(grace),
            Err(error) => panic!("{error}"),
        }
        self
    }

    /// Arms the watchdog, which forces the process to exit if it still lives when the longest possible shutdown plus
    /// `slack` has passed since the shutdown began. That happens when a step blocks the executor, or a blocking task delays the drop of the runtime. The
    /// watchdog exits with code 70 and names the steps that were not done. During the shutdown it
    /// also logs `executor_blocked` while the executor is blocked.
    ///
    /// The watchdog stays armed after [`run`](Self::run) has returned, until the process is gone or another runner
    /// starts. [`block_on`](Self::block_on) disarms the watchdog when it returns.
    pub fn watchdog(mut self, slack: Duration) -> Self {
        self.options.watchdog = Some(slack);
        self
    }

    /// Sets the effect of a second signal that comes more than 500 ms after the first. The default is
    /// [`SecondSignal::Hurry`].
    pub fn second_signal(mut self, second: SecondSignal) -> Self {
        self.options.second_signal = second;
        self
    }

    /// Runs `hook` on this signal instead of beginning the shutdown: for example SIGHUP to reload, or SIGUSR1 to log.
    ///
    /// The runner calls the hook on main's task, between two polls of main, until the shutdown begins. So the hook must
    /// not block. Its panics are contained.
    pub fn on_signal(mut self, signal: Signal, hook: impl FnMut() + Send + 'static) -> Self {
        self.options.hooks.push((signal, Box::new(hook)));
        self
    }

    /// Sets how long the start of [`build`](Self::build) may take. A start that takes longer has failed: it is told to
    /// stop as by a signal, and the shutdown's reason is [`Reason::StartFailed`]. By default a start may take any time.
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.options.start.timeout = Some(timeout);
        self
    }

    /// Sets the time that a start has to return its server after it was told to stop. The default is 5 s.
    ///
    /// The [`watchdog`](Self::watchdog) counts this time. [`grace`](Self::grace) does not, since a server that is
    /// stopped during its start has served no client.
    pub fn start_stop_timeout(mut self, timeout: Duration) -> Self {
        self.options.start.stop_timeout = timeout;
        self
    }

    /// Sets how long the process waits for its runtime to end, after the runner has returned its report. The default is
    /// 5 s; `None` removes this limit.
    ///
    /// A dropped runtime waits for the calls on its blocking pool, and a read of stdin, for example, may never return.
    /// After this time the process exits with the report's exit code, and a line on stderr gives the reason. The limit
    /// never cuts what a program does while its runtime lives.
    ///
    /// The limit works only on Linux, and only if the runner was polled on the main thread, as under `#[tokio::main]`.
    /// On other systems, and for a program that continues after its runtime was dropped, use
    /// [`block_on`](Self::block_on).
    pub fn runtime_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.options.runtime_timeout = timeout.into();
        self
    }

    /// Adds a hook that runs after the plan and gets the report. It is meant for flushing logs and traces at the very
    /// end.
    ///
    /// Hooks are synchronous. They run one after the other, in the order in which they were added, on a thread of their
    /// own, and share 3 s ([`finally_timeout`](Self::finally_timeout)). The runner does not wait for hooks that take
    /// longer: a line on stderr, a row `finally` in the report, and exit code 1 show that. Panics are contained, and
    /// reported in the same row.
    pub fn finally(mut self, hook: impl FnOnce(&Report) + Send + 'static) -> Self {
        self.options.finally.push(Box::new(hook));
        self
    }

    /// Sets how long the [`finally`](Self::finally) hooks may take together. The default is 3 s.
    /// [`grace`](Self::grace) and the [`watchdog`](Self::watchdog) count this time.
    pub fn finally_timeout(mut self, timeout: Duration) -> Self {
        self.options.finally_timeout = timeout;
        self
    }

    /// Sets the function that chooses the exit code. The default is [`Report::exit_code`]. [`ExitCodes`] has a table of
    /// the codes, and another function.
    pub fn exit_code(mut self, code: impl FnOnce(&Report) -> u8 + Send + 'static) -> Self {
        self.options.exit_code = Some(Box::new(code));
        self
    }
}

impl<S: GracefulShutdown, B: Source<S>> Runner<S, B> {
    /// Runs `main` until it ends or a shutdown is requested, then shuts the server down.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops main and the server. The server's `Drop` logs which steps were not cleaned.
    pub async fn run<M, T>(self, main: M) -> Report
    where
        M: AsyncFnOnce(&mut S, Stop) -> T,
        T: TaskOutcome,
    {
        self.bounded(Some(main)).await
    }

    /// Waits for a signal or a request of the handle, then shuts the server down.
    ///
    /// # Cancel safety
    ///
    /// The same as for [`run`](Self::run).
    pub async fn run_until_signal(self) -> Report {
        let no_main = None::<fn(&mut S, Stop) -> Ready<()>>;
        self.bounded(no_main).await
    }

    /// Runs `main` like [`run`](Self::run), on a new multi-threaded runtime. The drop of this runtime is bounded as
    /// well: after 1 s it no longer waits for a stuck `spawn_blocking`.
    ///
    /// # Panics
    ///
    /// If it is called on a thread that already drives a runtime.
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
                return Report::new(
                    S::PLAN.name(),
                    reason,
                    Duration::ZERO,
                    Cut::default(),
                    Vec::new(),
                );
            }
        };
        let (report, guard) = runtime.block_on(run_sequence(self.source, self.options, Some(main)));
        runtime.shutdown_timeout(END_TIMEOUT);
        guard.unwatch();
        report
    }

    /// Runs the sequence on a runtime that the caller drops, and bounds the end of that runtime.
    async fn bounded<M, T>(self, main: Option<M>) -> Report
    where
        M: AsyncFnOnce(&mut S, Stop) -> T,
        T: TaskOutcome,
    {
        let timeout = self.options.runtime_timeout;
        let (report, guard) = run_sequence(self.source, self.options, main).await;
        guard.bound_runtime(&report, timeout);
        report
    }
}

impl<S, B> fmt::Debug for Runner<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner")
            .field("handle", &self.options.handle)
            .finish_non_exhaustive()
    }
}

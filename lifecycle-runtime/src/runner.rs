//! Runs a server: signals, main, the plan, the exit code.

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
use options::{END, Options};
use sequence::conduct;
use source::{Given, Source, Start};
pub use stop::Stop;

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
/// - *type annotations needed*, in `run(server, |server, stop| async move { … })`: main is an async closure, which may
///   borrow the server. Write `run(server, async |server, stop| { … })`.
/// - *type annotations needed for `Result<(), _>`*: a main whose last expression is `Ok(())` has to name its error, as
///   here, since the compiler cannot tell it from the `?`s before it.
/// - *the `?` operator can only be applied to values that implement `Try`*, in `run(…).await?`: a [`Report`] is returned
///   whatever happened. Write `run(…).await.into_result()?`, or return the report from `main`, which makes it the exit code.
#[doc(alias("signal", "sigterm", "ctrl_c", "graceful"))]
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
/// 1. Signals are registered, before the server is [built](Self::build) and main starts. A start that is under way when the
///    shutdown is asked for is told, and has a bounded time to return what it built. SIGTERM, SIGINT,
///    SIGQUIT and SIGHUP begin the shutdown, unless they are [hooked](Self::on_signal); so do main's end,
///    error or panic, a [`ShutdownHandle`], and a task of a [critical](crate::TaskGroup::critical) group.
/// 2. [`Readiness`] turns to draining. [Lame duck](Self::lame_duck): main goes on serving, while
///    [deregistration](Self::deregister) runs beside it.
/// 3. [`Stop`] fires. Main is awaited until the plan needs the rest of the time, then dropped; a main
///    that never looked at its `Stop` is dropped at once.
/// 4. The plan runs. Then the server is dropped (a row `drop`, if that took a millisecond or panicked), the tasks are counted that the runtime still has, the
///    [`finally`](Self::finally) hooks run (a row `finally`, if they did not end well), and the report is returned.
///
/// A signal within 500 ms of the last is the same request, as terminals and process managers send several. A second one
/// [hurries](ShutdownHandle::hurry) the shutdown: the start, the lame duck, main and `best_effort` steps are cut, and the rest of the
/// plan runs with its own budgets. A third one forces the end ([`second_signal`](Self::second_signal) changes that), from a
/// thread of its own that a blocked executor cannot hold up: it runs every
/// [`on_force`](crate::Context::on_force) hook for up to 1 s, gives the engine 1 s to abort what runs, says on stderr what
/// was not done, and exits with 128 and the signal's number. It goes on listening after [`run`](Self::run)
/// has returned, while the runtime is dropped. The [watchdog](Self::watchdog) does the same, with exit
/// code 70, when the process is not gone in time.
///
/// With `panic = "abort"` no panic can be contained.
#[must_use = "a runner does nothing until `run`, `run_until_signal` or `block_on`"]
pub struct Runner<S, B = Given<S>> {
    source: B,
    options: Options,
    server: PhantomData<fn() -> S>,
}

impl<S: GracefulShutdown> Runner<S> {
    /// Runs this server.
    pub fn new(server: S) -> Self {
        Self::with(Given(server))
    }

    /// Builds the server once signals are heard, then runs it.
    ///
    /// The start gets a [`Stop`] of its own, which fires when the shutdown is asked for meanwhile. It then has
    /// 5 s ([`start_stop_timeout`](Self::start_stop_timeout)) to return: a server is cleaned by its plan and main is not
    /// run; an error is the outcome of the step `start`; a start that goes on is dropped, and its step is timed out. A start
    /// that looks at [`ShutdownHandle::requested`] instead of its `Stop` is treated no differently. Tasks that the start has
    /// spawned may keep its `Stop`: once the server is built, it fires when main's does.
    ///
    /// A start that fails by itself ends with [`Reason::StartFailed`] and exit code 1; what it had built is released by its
    /// own drop, or cleaned in plan order if the error is a [`FailedStart`] that holds it. An owner that is dropped in the start
    /// without a shutdown has a row of its own below `start`, and the report is not clean.
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
    ///         // What was built until now is cleaned.
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
    /// - *closure is expected to take 1 argument, but it takes 0 arguments*: write `async |_| …` where the start does not
    ///   look at its `Stop`.
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

    /// Lets this handle begin the shutdown and watch it.
    pub fn handle(mut self, handle: &ShutdownHandle) -> Self {
        self.options.handle = handle.clone();
        self
    }

    /// Keeps this in step: draining from the first moment of the shutdown, stopped after it.
    pub fn readiness(mut self, readiness: &Readiness) -> Self {
        self.options.readiness = Some(readiness.clone());
        self
    }

    /// Goes on serving for this long after the shutdown was asked for, since those who send work learn of it
    /// late (a Kubernetes Service does). The default is none. Never for Ctrl-C (SIGINT), nor when main is
    /// gone.
    pub fn lame_duck(mut self, minimum: Duration) -> Self {
        self.options.lame_duck.minimum = minimum;
        self
    }

    /// Runs `hook` at the beginning of the shutdown, while main still serves: to deregister from discovery.
    ///
    /// Hooks run together, within the lame duck or 5 s, whichever is longer; each has a row of its own in
    /// the report, below `lame_duck`, and its failure leaves that clean.
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

    /// Compares what the platform gives with what the shutdown may need (lame duck, budget, the time of the
    /// [`finally`](Self::finally) hooks, and 1 s for the rest) when the server starts, and logs a shortfall as `grace_short`.
    ///
    /// `grace` is a literal such as `"30s"`, a [`Duration`], or a [`Grace`] that was parsed from a setting.
    ///
    /// # Panics
    ///
    /// If a literal is no duration: such a program ends here, before its server runs, and the message says what is wrong.
    #[track_caller]
    pub fn grace(mut self, grace: impl TryInto<Grace, Error: fmt::Display>) -> Self {
        match grace.try_into() {
            Ok(grace) => self.options.grace = Some(grace),
            Err(error) => panic!("{error}"),
        }
        self
    }

    /// Has the process be gone in time: `slack` after all that the shutdown may take. If it is not, because a
    /// step blocks the executor or a blocking task holds the runtime's drop, the watchdog forces the end with
    /// exit code 70 and names what was not done. It also logs `executor_blocked` while that goes on.
    ///
    /// It stays armed after [`run`](Self::run), until the process is gone or another runner starts; in
    /// [`block_on`](Self::block_on) until that returns.
    pub fn watchdog(mut self, slack: Duration) -> Self {
        self.options.watchdog = Some(slack);
        self
    }

    /// Says what a second signal does, more than 500 ms after the first. The default is [`SecondSignal::Hurry`].
    pub fn second_signal(mut self, second: SecondSignal) -> Self {
        self.options.second_signal = second;
        self
    }

    /// Runs `hook` on this signal, instead of beginning the shutdown: SIGHUP to reload, SIGUSR1 to log.
    ///
    /// It is called on main's task, between two polls of main, until the shutdown begins; so it must not
    /// block. Its panics are contained.
    pub fn on_signal(mut self, signal: Signal, hook: impl FnMut() + Send + 'static) -> Self {
        self.options.hooks.push((signal, Box::new(hook)));
        self
    }

    /// Bounds the start of [`build`](Self::build). One that takes longer fails: it is told to stop as by a signal, with
    /// [`Reason::StartFailed`] as the reason. The default is no bound.
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.options.start.timeout = Some(timeout);
        self
    }

    /// Gives a start that was told to stop this long to return what it built. The default is 5 s.
    ///
    /// The [`watchdog`](Self::watchdog) counts it. [`grace`](Self::grace) does not, since a server that is stopped while it
    /// starts has served nobody.
    pub fn start_stop_timeout(mut self, timeout: Duration) -> Self {
        self.options.start.stop_timeout = timeout;
        self
    }

    /// Bounds how long the process waits for its runtime to end, after this has returned its report. The default is 5 s;
    /// `None` turns it off.
    ///
    /// A runtime that is dropped waits for the calls on its blocking pool, of which a read of stdin may never return. When it
    /// has waited for this long, the process ends with the report's exit code, and a line on stderr says why. What a program
    /// does while its runtime lives is never cut. This is known only on Linux, and only where the runner was polled on the
    /// main thread, as under `#[tokio::main]`; elsewhere, and for a program that goes on after its runtime was dropped, see
    /// [`block_on`](Self::block_on).
    pub fn runtime_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.options.runtime_timeout = timeout.into();
        self
    }

    /// Runs `hook` after the plan, with the report: to flush logs and traces, last of all.
    ///
    /// Hooks are synchronous and run one after the other on a thread of their own, in the order they
    /// were given; together they have 3 s ([`finally_timeout`](Self::finally_timeout)). Hooks that take longer are left
    /// behind: that is said on stderr, as a row `finally` in the report, and by exit code 1. Their panics are contained, and
    /// reported likewise.
    pub fn finally(mut self, hook: impl FnOnce(&Report) + Send + 'static) -> Self {
        self.options.finally.push(Box::new(hook));
        self
    }

    /// Gives the [`finally`](Self::finally) hooks this long together. The default is 3 s, which counts in
    /// [`grace`](Self::grace) and for the [`watchdog`](Self::watchdog).
    pub fn finally_timeout(mut self, timeout: Duration) -> Self {
        self.options.finally_timeout = timeout;
        self
    }

    /// Chooses the exit code. The default is [`Report::exit_code`]; [`ExitCodes`] has the table and another choice.
    pub fn exit_code(mut self, code: impl FnOnce(&Report) -> u8 + Send + 'static) -> Self {
        self.options.exit_code = Some(Box::new(code));
        self
    }
}

impl<S: GracefulShutdown, B: Source<S>> Runner<S, B> {
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
        self.bounded(Some(main)).await
    }

    /// Waits for a signal or the handle, then shuts the server down.
    ///
    /// # Cancel safety
    ///
    /// As [`run`](Self::run).
    pub async fn run_until_signal(self) -> Report {
        let no_main = None::<fn(&mut S, Stop) -> Ready<()>>;
        self.bounded(no_main).await
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
                return Report::new(
                    S::PLAN.name(),
                    reason,
                    Duration::ZERO,
                    Cut::default(),
                    Vec::new(),
                );
            }
        };
        let (report, guard) = runtime.block_on(conduct(self.source, self.options, Some(main)));
        runtime.shutdown_timeout(END);
        guard.unwatch();
        report
    }

    /// Runs on a runtime that somebody else drops.
    async fn bounded<M, T>(self, main: Option<M>) -> Report
    where
        M: AsyncFnOnce(&mut S, Stop) -> T,
        T: TaskOutcome,
    {
        let timeout = self.options.runtime_timeout;
        let (report, guard) = conduct(self.source, self.options, main).await;
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

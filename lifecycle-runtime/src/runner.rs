//! Runs a server: signals, main, the plan, the exit code.

mod end;
mod exit_codes;
mod force;
mod grace;
mod guard;
mod lame_duck;
mod main_task;
mod signals;
mod source;
mod stop;

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::future::{Future, Ready, poll_fn};
use std::marker::PhantomData;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crate::context::after;
use crate::engine::{RunningPlan, RuntimeTimeouts, ShutdownShared, contain};
use crate::plan::UNSTATED;
use crate::report::Cut;
use crate::state::{self, DEFAULT_TIMEOUT, RunPlan};
use crate::{
    BoxError, GracefulShutdown, Readiness, Reason, Report, ShutdownHandle, Signal, TaskOutcome,
    clock, log,
};

use end::end;
pub use exit_codes::ExitCodes;
pub use grace::{Grace, InvalidGrace};
use guard::Guard;
use lame_duck::LameDuck;
use main_task::MainTask;
pub use source::{FailedStart, Given, Source, Start};
pub use stop::Stop;

/// How long the end takes that has no time of its own: the drops, and what [`Runner::block_on`] waits for when its
/// runtime is dropped.
const END: Duration = Duration::from_secs(1);

/// How long the `finally` hooks have together, unless [`Runner::finally_timeout`] says otherwise.
const FINALLY: Duration = Duration::from_secs(3);

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
/// # Common errors
///
/// - *type annotations needed*, in `run(server, |server, stop| async move { … })`: main is an async closure, which may
///   borrow the server. Write `run(server, async |server, stop| { … })`.
/// - *type annotations needed for `Result<(), _>`*: a main whose last expression is `Ok(())` has to name its error, as
///   here, since the compiler cannot tell it from the `?`s before it.
/// - *the `?` operator can only be applied to values that implement `Try`*, in `run(…).await?`: a [`Report`] is returned
///   whatever happened. Write `run(…).await.into_result()?`, or return the report from `main`, which makes it the exit code.
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
/// 1. Signals are registered, before the server is [built](Self::build) and main starts. SIGTERM, SIGINT,
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
/// [hurries](ShutdownHandle::hurry) the shutdown: the lame duck, main and `best_effort` steps are cut, and the rest of the
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

struct Options {
    handle: ShutdownHandle,
    readiness: Option<Readiness>,
    lame_duck: LameDuck,
    grace: Option<Grace>,
    watchdog: Option<Duration>,
    hooks: Vec<(Signal, SignalHook)>,
    second_signal: SecondSignal,
    finally: Vec<Finally>,
    finally_timeout: Duration,
    exit_code: Option<ExitCode>,
}

/// What a second signal does, more than 500 ms after the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecondSignal {
    /// Hurries the shutdown, as [`ShutdownHandle::hurry`] does. A third signal forces the end.
    #[default]
    Hurry,
    /// Ends the lame duck if that is running, and otherwise forces the end.
    Force,
}

type Finally = Box<dyn FnOnce(&Report) + Send>;
type ExitCode = Box<dyn FnOnce(&Report) -> u8 + Send>;
type SignalHook = Box<dyn FnMut() + Send>;

impl<S: GracefulShutdown> Runner<S> {
    /// Runs this server.
    pub fn new(server: S) -> Self {
        Self::with(Given(server))
    }

    /// Builds the server once signals are heard, then runs it.
    ///
    /// A signal during the start drops its future, and nothing else is run. A start that fails ends with
    /// [`Reason::StartFailed`] and exit code 1; what it had built is released by its own drop, or cleaned in
    /// plan order if the error is a [`FailedStart`] that holds it.
    pub fn build<F, E>(start: F) -> Runner<S, Start<F, E>>
    where
        F: AsyncFnOnce() -> Result<S, E>,
        E: Into<BoxError>,
    {
        Runner::with(Start(start, PhantomData))
    }
}

impl<S, B> Runner<S, B> {
    fn with(source: B) -> Self {
        Self {
            source,
            options: Options {
                handle: ShutdownHandle::new(),
                readiness: None,
                lame_duck: LameDuck::default(),
                grace: None,
                watchdog: None,
                hooks: Vec::new(),
                second_signal: SecondSignal::default(),
                finally: Vec::new(),
                finally_timeout: FINALLY,
                exit_code: None,
            },
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
        let (report, _guard) = self.conduct(Some(main)).await;
        report
    }

    /// Waits for a signal or the handle, then shuts the server down.
    ///
    /// # Cancel safety
    ///
    /// As [`run`](Self::run).
    pub async fn run_until_signal(self) -> Report {
        let no_main = None::<fn(&mut S, Stop) -> Ready<()>>;
        let (report, _guard) = self.conduct(no_main).await;
        report
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
        let (report, guard) = runtime.block_on(self.conduct(Some(main)));
        runtime.shutdown_timeout(END);
        guard.unwatch();
        report
    }

    /// The whole of it. The guard is armed until it is dropped.
    async fn conduct<M, T>(self, main: Option<M>) -> (Report, Guard)
    where
        M: AsyncFnOnce(&mut S, Stop) -> T,
        T: TaskOutcome,
    {
        let Self {
            source,
            mut options,
            ..
        } = self;
        let hooked = options.hooks.iter().map(|(signal, _)| *signal).collect();
        let mut guard = Guard::arm(&options.handle, hooked, options.second_signal).await;
        guard.watch("the start", options.allowed(S::PLAN.budget()));
        let (mut server, main, failed) = match start(source, &options.handle).await {
            Started::Whole(server) => (server, main, false),
            Started::Failed(server, error) => {
                options
                    .handle
                    .request(Reason::StartFailed(Arc::clone(&error)));
                let Some(server) = server else {
                    let report = nothing::<S>(Reason::StartFailed(error));
                    return (end(None::<S>, report, options).await, guard);
                };
                (server, None, true)
            }
            Started::Cancelled(reason) => {
                return (end(None::<S>, nothing::<S>(reason), options).await, guard);
            }
        };
        let bounds = Bounds::of(&server, &options);
        guard.watch("main", bounds.allowed);
        let (stop, firing) = stop::pair();
        let plan = {
            let server = &mut server;
            // Lazy, so that a panic of the call itself is main's too.
            let main = pin!(main.map(|main| async move { main(server, stop).await }));
            let mut main = main.is_some().then(|| MainTask::new(main));
            let reason = serve(main.as_mut(), &mut options, &mut guard).await;
            // Where there never was one, tasks serve.
            let gone = main.as_ref().map_or(failed, MainTask::has_ended);
            let plan =
                begin::<S, _, _>(&mut options, &bounds, &guard, reason, main.as_mut(), gone).await;
            if let Some(main) = main {
                let latest = plan.deadline().checked_sub(bounds.reserve);
                main.finish(&plan, latest.unwrap_or(plan.shared.began), &firing)
                    .await;
            }
            plan
        };
        let report = shut_down(&mut server, plan, &options.handle).await;
        (end(Some(server), report, options).await, guard)
    }
}

impl<S, B> fmt::Debug for Runner<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner")
            .field("handle", &self.options.handle)
            .finish_non_exhaustive()
    }
}

/// What a start came to.
enum Started<S> {
    Whole(S),
    /// With what was built, if the error holds it.
    Failed(Option<S>, Arc<dyn Error + Send + Sync>),
    /// The shutdown was asked for before.
    Cancelled(Reason),
}

/// Builds the server, unless somebody asks for the shutdown first.
async fn start<S, B: Source<S>>(source: B, handle: &ShutdownHandle) -> Started<S> {
    let mut server = pin!(Some(source.server()));
    let mut requested = pin!(handle.requested());
    let started = poll_fn(|cx| {
        let Some(building) = server.as_mut().as_pin_mut() else {
            return Poll::Pending;
        };
        // First the server: one that is there already is never given up.
        match contain(|| building.poll(cx)) {
            Ok(Poll::Ready(Ok(server))) => Poll::Ready(Started::Whole(server)),
            Ok(Poll::Ready(Err((server, error)))) => {
                Poll::Ready(Started::Failed(server, error.into()))
            }
            Ok(Poll::Pending) => requested.as_mut().poll(cx).map(Started::Cancelled),
            Err(message) => {
                let error = BoxError::from(format!("panicked: {message}"));
                Poll::Ready(Started::Failed(None, error.into()))
            }
        }
    })
    .await;
    // What it had built is dropped with it, which is somebody's code.
    let _ = contain(|| server.set(None));
    started
}

/// The report of a server that never was.
fn nothing<S: GracefulShutdown>(reason: Reason) -> Report {
    Report::new(
        S::PLAN.name(),
        reason,
        Duration::ZERO,
        Cut::default(),
        Vec::new(),
    )
}

/// The times of a shutdown, known before it begins.
struct Bounds {
    /// The plan's.
    total: Duration,
    /// What of that is kept from main.
    reserve: Duration,
    /// From the request until the process has to be gone, if a watchdog is to see to it.
    allowed: Option<Duration>,
}

impl Bounds {
    fn of<S: GracefulShutdown>(server: &S, options: &Options) -> Self {
        let times = RuntimeTimeouts::of(server, &S::PLAN);
        let total = times.total.unwrap_or(DEFAULT_TIMEOUT);
        let longest = times.longest(&S::PLAN, total);
        let lame_duck = options.lame_duck.longest();
        if let Some(grace) = options.grace {
            grace.check(S::PLAN.name(), lame_duck, total, options.after_plan());
        }
        Self {
            total,
            // Main counts 1 s, as a step that states nothing does.
            reserve: shrunk(longest, longest.saturating_add(UNSTATED), total),
            allowed: options.allowed(Some(total)),
        }
    }
}

impl Options {
    /// How long what comes after the plan may take.
    fn after_plan(&self) -> Duration {
        match self.finally.is_empty() {
            true => END,
            false => END.saturating_add(self.finally_timeout),
        }
    }

    /// How long a process may take from the request until it is gone, if a watchdog is to see to it.
    fn allowed(&self, budget: Option<Duration>) -> Option<Duration> {
        let all = self
            .lame_duck
            .longest()
            .saturating_add(budget.unwrap_or(DEFAULT_TIMEOUT));
        let slack = self.watchdog?;
        Some(all.saturating_add(self.after_plan()).saturating_add(slack))
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

/// Runs main, and the hooks of signals, until the shutdown is asked for.
async fn serve<F, T>(
    mut main: Option<&mut MainTask<'_, F>>,
    options: &mut Options,
    guard: &mut Guard,
) -> Reason
where
    F: Future<Output = T>,
    T: TaskOutcome,
{
    let Options { handle, hooks, .. } = options;
    let mut requested = pin!(handle.requested());
    poll_fn(|cx| {
        // Who asked first, wins.
        if let Poll::Ready(reason) = requested.as_mut().poll(cx) {
            return Poll::Ready(reason);
        }
        while let Poll::Ready(signal) = guard.poll_hooked(cx) {
            for (_, hook) in hooks.iter_mut().filter(|(which, _)| *which == signal) {
                if let Err(message) = contain(hook) {
                    log::hook_panicked(signal, &message);
                }
            }
        }
        let Some(main) = &mut main else {
            return Poll::Pending;
        };
        main.poll(cx).map(|()| {
            handle.request(main.reason());
            handle.reason()
        })
    })
    .await
}

/// Not ready any more; then the lame duck; then the plan's clock is started.
async fn begin<S, F, T>(
    options: &mut Options,
    bounds: &Bounds,
    guard: &Guard,
    reason: Reason,
    main: Option<&mut MainTask<'_, F>>,
    main_gone: bool,
) -> Arc<RunningPlan>
where
    S: GracefulShutdown,
    F: Future<Output = T>,
    T: TaskOutcome,
{
    let name = S::PLAN.name();
    let began = clock::now();
    if let Some(readiness) = &options.readiness {
        readiness.drain();
    }
    let lame_duck = std::mem::take(&mut options.lame_duck);
    let minimum = lame_duck.kept(&reason, main_gone);
    log::begin(name, &reason, minimum, bounds.total);
    guard.begins("main or a deregistration hook");
    let over = options.handle.begin_lame_duck(began);
    let shared = ShutdownShared::new(reason, began);
    let plan = RunningPlan::root(name, shared, after(began, bounds.total));
    lame_duck.run(minimum, &plan, main, &over).await;
    options.handle.end_lame_duck();
    plan.set_deadline(after(clock::now(), bounds.total));
    options.handle.runs(&plan);
    plan
}

/// Runs the plan on the clock that was started, or what main has left of it.
async fn shut_down<S: GracefulShutdown>(
    server: &mut S,
    plan: Arc<RunningPlan>,
    handle: &ShutdownHandle,
) -> Report {
    let resumed = state::resume(server, Arc::clone(&plan));
    handle.runs(&resumed);
    let report = RunPlan::of(server, Arc::clone(&resumed)).await;
    if Arc::ptr_eq(&resumed, &plan) {
        return report;
    }
    // Main shut the server down itself, so that its own row is on a clock of its own.
    plan.finish_empty();
    plan.report()
        .map_or(report.clone(), |main| report.preceded_by(main.steps()))
}

//! The guard: one thread of the process that hears signals, whatever the executors do.
//!
//! It is started by the first [`Runner`](super::Runner) and stays: tokio never restores a signal's
//! default action, so once somebody has listened, somebody has to go on, until the process is gone.
//!
//! Per signal, for each runner that is armed: the first asks for its shutdown; one within
//! [`SAME`] of the first is the same request; a later one forces the end of the process. When no runner
//! is armed any more, any signal does.

use std::io::Write as _;
use std::process;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::engine::{Live, OpenStep, contain};
use crate::report::forced_code;
use crate::{Reason, ShutdownHandle, Signal, StepProgress, clock, log};

/// Terminals and process managers send a signal twice; that is one request.
const SAME: Duration = Duration::from_millis(500);

/// How long the engine has to abort what runs, once the end is forced.
const ABORTS: Duration = Duration::from_secs(1);

/// How long the components have to say what they wait for, and then to run their hooks, before that.
const ANSWERS: Duration = Duration::from_millis(250);

/// What a component has run by a forced end.
type Hook = Box<dyn FnOnce() + Send>;

/// A runner that hears signals. Dropped when it has ended.
pub(super) struct Guard {
    post: Arc<Post>,
}

/// One runner, as the thread knows it.
struct Post {
    handle: ShutdownHandle,
    /// When the first signal came; real time, since signals do.
    first: Mutex<Option<Instant>>,
}

/// The runners that are armed, and whether one was ever told by a signal.
#[derive(Default)]
struct Posts {
    armed: Vec<Arc<Post>>,
    /// The last of those that ended: what a forced end then tells of.
    last: Option<Arc<Post>>,
}

static POSTS: OnceLock<Mutex<Posts>> = OnceLock::new();
static LISTENING: OnceLock<()> = OnceLock::new();

fn posts() -> MutexGuard<'static, Posts> {
    lock(POSTS.get_or_init(Mutex::default))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Guard {
    /// Has signals begin the shutdown of `handle`. They are registered when this returns.
    pub(super) async fn arm(handle: &ShutdownHandle) -> Self {
        let post = Arc::new(Post {
            handle: handle.clone(),
            first: Mutex::new(None),
        });
        posts().armed.push(Arc::clone(&post));
        let guard = Self { post };
        if LISTENING.get().is_none() {
            listen().await;
        }
        guard
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut posts = posts();
        posts.armed.retain(|post| !Arc::ptr_eq(post, &self.post));
        posts.last = Some(Arc::clone(&self.post));
    }
}

/// Starts the thread, unless another runner was faster.
async fn listen() {
    let (registered, when_registered) = oneshot::channel();
    let spawned = thread::Builder::new()
        .name("lifecycle-guard".into())
        .spawn(move || watch_signals(registered));
    match spawned {
        Err(error) => log::no_signals(&error),
        Ok(_) => match when_registered.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => log::no_signals(&error),
            Err(_) => log::no_signals(&std::io::Error::other("the thread that listens has ended")),
        },
    }
}

fn watch_signals(registered: oneshot::Sender<std::io::Result<()>>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return drop(registered.send(Err(error))),
    };
    runtime.block_on(async {
        let mut signals = match Signals::register() {
            Ok(signals) => signals,
            Err(error) => return drop(registered.send(Err(error))),
        };
        let first = LISTENING.set(()).is_ok();
        // The runner that waits for it may be gone.
        let _ = registered.send(Ok(()));
        if first {
            loop {
                heard(signals.next().await);
            }
        }
    });
}

/// What is to be done about a signal.
fn heard(signal: Signal) {
    let (forced, armed) = {
        let posts = posts();
        let now = Instant::now();
        let mut forced: Vec<_> = posts
            .armed
            .iter()
            .filter(|post| post.tell(signal, now))
            .cloned()
            .collect();
        if posts.armed.is_empty() {
            forced.extend(
                posts
                    .last
                    .iter()
                    .filter(|post| post.tells_again(now))
                    .cloned(),
            );
        }
        (forced, !posts.armed.is_empty())
    };
    if !forced.is_empty() {
        force(signal, &forced, armed);
    }
}

impl Post {
    /// Asks for the shutdown; `true` if it was asked for before, so that the end has to be forced.
    fn tell(&self, signal: Signal, now: Instant) -> bool {
        let mut first = lock(&self.first);
        match *first {
            Some(first) => now.saturating_duration_since(first) >= SAME,
            None => {
                *first = Some(now);
                self.handle.request(Reason::Signal(signal));
                false
            }
        }
    }

    /// The runner has ended, so nobody else will act on it.
    fn tells_again(&self, now: Instant) -> bool {
        lock(&self.first).is_none_or(|first| now.saturating_duration_since(first) >= SAME)
    }
}

/// Ends the process, within [`ABORTS`] and twice [`ANSWERS`] whatever the rest of it does.
fn force(signal: Signal, posts: &[Arc<Post>], armed: bool) -> ! {
    let plans: Vec<Arc<Live>> = posts.iter().filter_map(|post| post.handle.live()).collect();
    // Before the engine is told: it lets go of both as it ends the steps.
    let open = plans
        .iter()
        .flat_map(|live| live.open_steps(clock::now()))
        .collect();
    let hooks = plans.iter().flat_map(|live| live.take_hooks()).collect();
    let told = plans.clone();
    let log = move || told.iter().for_each(|live| log::forced(live, signal));
    let (steps, ran) = ask(open, log, hooks);

    let mut text = format!("lifecycle: {signal} again, the end is forced\n");
    steps.iter().for_each(|step| text.push_str(&line(step)));
    if armed && plans.len() < posts.len() {
        text.push_str("  the shutdown had not begun: main holds the executor\n");
    }
    for live in plans
        .iter()
        .filter(|live| live.report().is_none() && !live.is_open())
    {
        text.push_str(&format!(
            "  not done: the plan of {} had not begun\n",
            live.component
        ));
    }
    if !armed {
        text.push_str("  every step has ended: something else holds the process\n");
    }
    tell(&text);

    // All hooks have run, or go on beside the aborts. First they, since the process may well end by itself
    // once the engine is told.
    let _ = ran.recv_timeout(ANSWERS);
    for live in &plans {
        live.origin.force(signal);
    }
    let until = Instant::now() + ABORTS;
    let is_open = || plans.iter().any(|live| live.report().is_none());
    while Instant::now() < until && is_open() {
        thread::sleep(Duration::from_millis(5));
    }
    if is_open() {
        tell("  the executor did not get to abort what was running within 1 s\n");
    } else if armed {
        // The runner has its report; the process may well end by itself.
        thread::sleep(until.saturating_duration_since(Instant::now()));
    }
    process::exit(i32::from(forced_code(signal)));
}

/// Asks every step what it waits for, then runs the hooks: a component's code, which may block, so it
/// runs on a thread that is left behind. The second is told when all hooks have run.
fn ask(
    open: Vec<OpenStep>,
    log: impl FnOnce() + Send + 'static,
    hooks: Vec<Hook>,
) -> (Vec<StepProgress>, mpsc::Receiver<()>) {
    let mut steps: Vec<StepProgress> = open.iter().map(|step| step.view.clone()).collect();
    let (says, said) = mpsc::channel();
    let (runs, ran) = mpsc::channel();
    // Without a thread the process still ends, and says less.
    let _ = thread::Builder::new()
        .name("lifecycle-force".into())
        .spawn(move || {
            for (i, step) in open.into_iter().enumerate() {
                // The guard may have stopped listening.
                let _ = says.send((i, step.described()));
            }
            drop(says);
            // A subscriber is somebody's code too.
            let _ = contain(log);
            for hook in hooks {
                if let Err(message) = contain(hook) {
                    log::on_force_panicked(&message);
                }
            }
            drop(runs);
        });
    let until = Instant::now() + ANSWERS;
    while let Ok((i, step)) = said.recv_timeout(until.saturating_duration_since(Instant::now())) {
        steps[i] = step;
    }
    (steps, ran)
}

fn tell(text: &str) {
    // Nobody is left to tell if stderr is gone.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn line(step: &StepProgress) -> String {
    let state = if step.is_running() {
        "was running"
    } else {
        "had not begun"
    };
    match step.waiting_for() {
        Some(what) => format!("  not done: {} {state}, waiting for {what}\n", step.path()),
        None => format!("  not done: {} {state}\n", step.path()),
    }
}

#[cfg(unix)]
struct Signals {
    streams: [(Signal, tokio::signal::unix::Signal); 4],
}

#[cfg(unix)]
impl Signals {
    fn register() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let on = |which: Signal| {
            signal(SignalKind::from_raw(which.as_raw())).map(|stream| (which, stream))
        };
        Ok(Self {
            streams: [
                on(Signal::TERMINATE)?,
                on(Signal::INTERRUPT)?,
                on(Signal::QUIT)?,
                on(Signal::HANGUP)?,
            ],
        })
    }

    async fn next(&mut self) -> Signal {
        std::future::poll_fn(|cx| {
            for (which, stream) in &mut self.streams {
                if stream.poll_recv(cx).is_ready() {
                    return std::task::Poll::Ready(*which);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}

#[cfg(windows)]
struct Signals {
    ctrl_c: tokio::signal::windows::CtrlC,
}

#[cfg(windows)]
impl Signals {
    fn register() -> std::io::Result<Self> {
        Ok(Self {
            ctrl_c: tokio::signal::windows::ctrl_c()?,
        })
    }

    async fn next(&mut self) -> Signal {
        if self.ctrl_c.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
        Signal::INTERRUPT
    }
}

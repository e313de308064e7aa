//! The guard: one thread of the process that hears signals, whatever the executors do.
//!
//! It is started by the first [`Runner`](super::Runner) and stays: tokio never restores a signal's
//! default action, so once somebody has listened, somebody has to go on, until the process is gone.
//!
//! Per signal, for each runner that is armed: the first asks for its shutdown; one within
//! [`DUPLICATE_SIGNAL_WINDOW`] of the last is the same request; the second hurries, the third forces the end of the
//! process. When no runner is armed any more, any signal does.
//!
//! The same thread is the watchdog of runners that asked for one.

use std::future::{Future, poll_fn};
use std::io::{self, IsTerminal as _, Write as _};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep_until;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::SecondSignal;
use super::force::{Forced, force};
use super::signals::Signals;
use crate::context::after;
use crate::engine::RunningPlan;
use crate::{Force, Reason, ShutdownHandle, Signal, clock, log};

/// Terminals and process managers send a signal twice; that is one request.
const DUPLICATE_SIGNAL_WINDOW: Duration = Duration::from_millis(500);

/// How often the watchdog looks whether the executor still gets to the plan.
const LOOK: Duration = Duration::from_secs(1);

/// How long the executor may keep from a plan before that is said.
const BLOCKED: Duration = Duration::from_secs(3);

/// A runner that hears signals. Dropped when it has ended.
pub(super) struct Guard {
    post: Arc<Post>,
    hooked: mpsc::UnboundedReceiver<Signal>,
    /// Ends the watchdog's wait for the request.
    over: Option<DropGuard>,
}

/// One runner, as the thread knows it.
struct Post {
    handle: ShutdownHandle,
    /// Signals that are passed on instead of ending anything.
    hooks: Vec<Signal>,
    hooked: mpsc::UnboundedSender<Signal>,
    second: SecondSignal,
    times: Mutex<Times>,
}

/// All in real time, since signals and executors that block are.
#[derive(Default)]
struct Times {
    /// When the last signal came that did something.
    last: Option<Instant>,
    /// A signal has hurried it.
    hurried: bool,
    /// How long after the request the process has to be gone.
    allowed: Option<Duration>,
    /// Who runs, as long as there is no plan.
    ahead: &'static str,
    /// When the process has to be gone.
    gone_by: Option<Instant>,
    /// It was said that the executor is blocked.
    said_blocked: bool,
}

/// The runners that are armed, and whether one was ever told by a signal.
#[derive(Default)]
struct Posts {
    armed: Vec<Arc<Post>>,
    /// The last of those that ended: what a forced end then tells of.
    last: Option<Arc<Post>>,
    /// Reaches the thread.
    thread: Option<mpsc::UnboundedSender<Ask>>,
}

/// Something asked of the thread.
enum Ask {
    /// Hear this signal too.
    Hear(Signal, oneshot::Sender<io::Result<()>>),
    /// The watchdog of this runner, from its request on, unless it ended before.
    Watch(Arc<Post>, CancellationToken),
    /// There is a new time to look.
    Look,
}

static POSTS: OnceLock<Mutex<Posts>> = OnceLock::new();

fn posts() -> MutexGuard<'static, Posts> {
    lock(POSTS.get_or_init(Mutex::default))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn ask(ask: Ask) {
    if let Some(thread) = &posts().thread {
        // The thread ends with the process.
        let _ = thread.send(ask);
    }
}

impl Guard {
    /// Has signals begin the shutdown of `handle`, except those that are hooked. They are registered when
    /// this returns.
    pub(super) async fn arm(
        handle: &ShutdownHandle,
        hooks: Vec<Signal>,
        second: SecondSignal,
    ) -> Self {
        let (sender, hooked) = mpsc::unbounded_channel();
        let post = Arc::new(Post {
            handle: handle.clone(),
            hooks,
            hooked: sender,
            second,
            times: Mutex::default(),
        });
        let thread = {
            let mut posts = posts();
            posts.armed.push(Arc::clone(&post));
            posts.thread.clone()
        };
        let guard = Self {
            post,
            hooked,
            over: None,
        };
        let thread = match thread {
            Some(thread) => Some(thread),
            None => listen().await,
        };
        for &signal in &guard.post.hooks {
            let (heard, when_heard) = oneshot::channel();
            let asked = thread.as_ref().is_some_and(|thread| {
                let ask = Ask::Hear(signal, heard);
                thread.send(ask).is_ok()
            });
            if asked {
                if let Ok(Err(error)) = when_heard.await {
                    log::not_hooked(signal, &error);
                }
            }
        }
        guard
    }

    /// Until there is a plan, `ahead` is who runs. If the process has to be gone within some time of the
    /// request, the watchdog forces its end otherwise, also after this guard is dropped.
    pub(super) fn watch(&mut self, ahead: &'static str, allowed: Option<Duration>) {
        let mut times = lock(&self.post.times);
        times.ahead = ahead;
        times.allowed = allowed;
        drop(times);
        if allowed.is_some() && self.over.is_none() {
            let over = CancellationToken::new();
            self.over = Some(over.clone().drop_guard());
            ask(Ask::Watch(Arc::clone(&self.post), over));
        }
    }

    /// The shutdown begins now.
    pub(super) fn begins(&self, ahead: &'static str) {
        lock(&self.post.times).ahead = ahead;
        self.post.asked(Instant::now());
    }

    /// The watchdog is off: what comes now is the caller's.
    pub(super) fn unwatch(&self) {
        let mut times = lock(&self.post.times);
        times.gone_by = None;
        times.allowed = None;
    }

    /// The next signal that is hooked.
    pub(super) fn poll_hooked(&mut self, cx: &mut Context<'_>) -> Poll<Signal> {
        match self.hooked.poll_recv(cx) {
            Poll::Ready(Some(signal)) => Poll::Ready(signal),
            // The post, which holds the sender, is this guard's.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
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
async fn listen() -> Option<mpsc::UnboundedSender<Ask>> {
    let (asks, asked) = mpsc::unbounded_channel();
    let (registered, when_registered) = oneshot::channel();
    let spawned = thread::Builder::new()
        .name("lifecycle-guard".into())
        .spawn(move || run(registered, asks, asked));
    let error = match spawned {
        Err(error) => error,
        Ok(_) => match when_registered.await {
            Ok(Ok(asks)) => return Some(asks),
            Ok(Err(error)) => error,
            Err(_) => io::Error::other("the thread that listens has ended"),
        },
    };
    log::no_signals(&error);
    None
}

type Asks = mpsc::UnboundedSender<Ask>;

fn run(
    registered: oneshot::Sender<io::Result<Asks>>,
    asks: Asks,
    mut asked: mpsc::UnboundedReceiver<Ask>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
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
        let known = {
            let mut posts = posts();
            let known = posts.thread.clone();
            posts.thread.get_or_insert_with(|| asks.clone());
            known
        };
        let first = known.is_none();
        // The runner that waits for it may be gone.
        let _ = registered.send(Ok(known.unwrap_or(asks)));
        if first {
            loop {
                attend(&mut signals, &mut asked).await;
            }
        }
    });
}

/// One signal, one request, or one look.
async fn attend(signals: &mut Signals, asked: &mut mpsc::UnboundedReceiver<Ask>) {
    enum Event {
        Signal(Signal),
        Ask(Option<Ask>),
        Look,
    }
    let event = {
        let mut signal = pin!(signals.next());
        let mut ask = pin!(asked.recv());
        let next = next_look(Instant::now());
        let mut timer = pin!(next.map(|at| sleep_until(at.into())));
        poll_fn(|cx| {
            if let Poll::Ready(signal) = signal.as_mut().poll(cx) {
                return Poll::Ready(Event::Signal(signal));
            }
            if let Poll::Ready(ask) = ask.as_mut().poll(cx) {
                return Poll::Ready(Event::Ask(ask));
            }
            match timer.as_mut().as_pin_mut() {
                Some(timer) => timer.poll(cx).map(|()| Event::Look),
                None => Poll::Pending,
            }
        })
        .await
    };
    match event {
        Event::Signal(signal) => heard(signal),
        Event::Ask(Some(Ask::Hear(signal, heard))) => {
            // The runner that waits for it may be gone.
            let _ = heard.send(signals.add(signal));
        }
        Event::Ask(Some(Ask::Watch(post, over))) => {
            tokio::spawn(async move {
                // Here, since a blocked executor never gets to it.
                over.run_until_cancelled(post.handle.requested()).await;
                if post.handle.is_requested() {
                    post.asked(Instant::now());
                }
            });
        }
        // There is always a sender: `POSTS` has one.
        Event::Ask(Some(Ask::Look) | None) => {}
        Event::Look => look(Instant::now()),
    }
}

/// What is to be done about a signal.
fn heard(signal: Signal) {
    let (forced, running) = {
        let posts = posts();
        let now = Instant::now();
        let armed = posts.armed.iter();
        let mut forced: Vec<_> = armed
            .filter(|post| post.tell(signal, now))
            .cloned()
            .collect();
        if posts.armed.is_empty() {
            let last = posts.last.iter();
            forced.extend(last.filter(|post| post.tells_again(signal, now)).cloned());
        }
        (forced, !posts.armed.is_empty())
    };
    if !forced.is_empty() {
        end(Force::Signal(signal), &forced, running);
    }
}

/// Whom the watchdog watches. One that ended is not waited for while others run.
fn watched(posts: &Posts) -> impl Iterator<Item = &Arc<Post>> {
    let last = posts.last.as_ref().filter(|_| posts.armed.is_empty());
    posts.armed.iter().chain(last)
}

/// When the watchdog has to look again, if it watches anybody.
fn next_look(now: Instant) -> Option<Instant> {
    let posts = posts();
    let ends = watched(&posts).filter_map(|post| lock(&post.times).gone_by);
    ends.min().map(|end| end.min(now + LOOK))
}

/// Looks whether the process should be gone, and whether the executor gets to the plans.
fn look(now: Instant) {
    let (late, running) = {
        let posts = posts();
        let blocked: Vec<_> = posts
            .armed
            .iter()
            .filter_map(|post| post.look(now))
            .collect();
        tell_blocked(blocked);
        let is_late = |post: &&Arc<Post>| lock(&post.times).gone_by.is_some_and(|by| now >= by);
        let late: Vec<_> = watched(&posts).filter(is_late).cloned().collect();
        (late, !posts.armed.is_empty())
    };
    if !late.is_empty() {
        end(Force::Watchdog, &late, running);
    }
}

/// On a thread that is left behind: a subscriber may wait for what is blocked, or panic, and the guard must do neither.
fn tell_blocked(blocked: Vec<(Arc<RunningPlan>, Duration)>) {
    if blocked.is_empty() {
        return;
    }
    // Without a thread it is not said; the watchdog goes on.
    let _ = thread::Builder::new()
        .name("lifecycle-blocked".into())
        .spawn(move || {
            for (live, since) in blocked {
                log::executor_blocked(&live, since);
            }
        });
}

fn end(by: Force, posts: &[Arc<Post>], running: bool) -> ! {
    let plans: Vec<_> = posts
        .iter()
        .filter_map(|post| post.handle.running())
        .collect();
    let early = posts
        .iter()
        .filter(|post| running && post.handle.running().is_none());
    let early = early.map(|post| lock(&post.times).ahead).collect();
    force(
        by,
        Forced {
            plans,
            early,
            running,
        },
    )
}

impl Post {
    /// Asks for the shutdown; `true` if it was asked for before, so that the end has to be forced.
    fn tell(&self, signal: Signal, now: Instant) -> bool {
        if self.hooks.contains(&signal) {
            // The runner may have ended meanwhile.
            let _ = self.hooked.send(signal);
            return false;
        }
        let mut times = lock(&self.times);
        let Some(last) = times.last.replace(now) else {
            drop(times);
            self.handle.request(Reason::Signal(signal));
            return false;
        };
        if now.saturating_duration_since(last) < DUPLICATE_SIGNAL_WINDOW {
            times.last = Some(last);
            return false;
        }
        if times.hurried {
            return true;
        }
        match self.second {
            SecondSignal::Hurry => {
                times.hurried = true;
                drop(times);
                self.hurry();
                false
            }
            SecondSignal::Force => !self.handle.end_lame_duck(),
        }
    }

    /// Cuts what may be cut, and says so to who sits at a terminal.
    fn hurry(&self) {
        let plan = self.handle.running();
        self.handle.hurry();
        // On a thread that is left behind: a terminal may be stopped, and the guard must not be.
        let _ = thread::Builder::new()
            .name("lifecycle-hurry".into())
            .spawn(move || say_hurried(plan.as_deref()));
    }

    /// The shutdown was asked for, so that the process has to be gone in time.
    fn asked(&self, now: Instant) {
        let mut times = lock(&self.times);
        times.gone_by = times.allowed.map(|allowed| after(now, allowed));
        let watched = times.gone_by.is_some();
        drop(times);
        if watched {
            ask(Ask::Look);
        }
    }

    /// The runner has ended, so nobody else will act on it. What it hooked is still no reason to end.
    fn tells_again(&self, signal: Signal, now: Instant) -> bool {
        if self.hooks.contains(&signal) {
            return false;
        }
        let last = lock(&self.times).last;
        last.is_none_or(|last| now.saturating_duration_since(last) >= DUPLICATE_SIGNAL_WINDOW)
    }

    /// The plan that the executor does not get to, and for how long, if that is to be said: once.
    fn look(&self, now: Instant) -> Option<(Arc<RunningPlan>, Duration)> {
        let live = self.handle.running()?;
        let since = live.shared.since_heartbeat(now);
        let mut times = lock(&self.times);
        let blocked = times.gone_by.is_some() && live.report().is_none() && since > BLOCKED;
        let said = std::mem::replace(&mut times.said_blocked, blocked);
        (blocked && !said).then_some((live, since))
    }
}

/// Says at a terminal what a hurry cuts, and what another signal would do.
fn say_hurried(plan: Option<&RunningPlan>) {
    let mut stderr = io::stderr();
    if !stderr.is_terminal() {
        return;
    }
    let unfinished = plan.map(|plan| plan.unfinished_steps(clock::now()));
    let running = unfinished
        .iter()
        .flatten()
        .filter(|step| step.is_cut_by_a_hurry());
    let cut: Vec<_> = running.map(|step| step.view.path()).collect();
    let text = match cut.is_empty() {
        true => "lifecycle: hurrying".to_owned(),
        false => format!("lifecycle: hurrying, {} cut", cut.join(", ")),
    };
    // Nobody is left to tell if stderr is gone.
    let _ = writeln!(
        stderr,
        "{text}; the rest of the shutdown runs, another signal forces the end"
    );
}

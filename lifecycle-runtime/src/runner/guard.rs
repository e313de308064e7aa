//! The guard: one thread of the process that hears signals, whatever the executors do.
//!
//! It is started by the first [`Runner`](super::Runner) and stays: tokio never restores a signal's
//! default action, so once somebody has listened, somebody has to go on, until the process is gone.
//!
//! Per signal, for each runner that is armed: the first asks for its shutdown; one within
//! [`SAME`] of the first is the same request; a later one ends its lame duck if that is running, and
//! otherwise forces the end of the process. When no runner is armed any more, any signal does.
//!
//! The same thread is the watchdog of runners that asked for one.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep_until;

use super::force::{Forced, force};
use super::signals::Signals;
use crate::context::after;
use crate::{Force, Reason, ShutdownHandle, Signal, log};

/// Terminals and process managers send a signal twice; that is one request.
const SAME: Duration = Duration::from_millis(500);

/// How often the watchdog looks whether the executor still gets to the plan.
const LOOK: Duration = Duration::from_secs(1);

/// How long the executor may keep from a plan before that is said.
const BLOCKED: Duration = Duration::from_secs(3);

/// A runner that hears signals. Dropped when it has ended.
pub(super) struct Guard {
    post: Arc<Post>,
    hooked: mpsc::UnboundedReceiver<Signal>,
}

/// One runner, as the thread knows it.
struct Post {
    handle: ShutdownHandle,
    /// Signals that are passed on instead of ending anything.
    hooks: Vec<Signal>,
    hooked: mpsc::UnboundedSender<Signal>,
    times: Mutex<Times>,
}

/// All in real time, since signals and executors that block are.
#[derive(Default)]
struct Times {
    /// When the first signal came, or the last that only ended a lame duck.
    first: Option<Instant>,
    /// How long after the first signal the process has to be gone.
    allowed: Option<Duration>,
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
    /// A watchdog was set.
    Look,
}

static POSTS: OnceLock<Mutex<Posts>> = OnceLock::new();

fn posts() -> MutexGuard<'static, Posts> {
    lock(POSTS.get_or_init(Mutex::default))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Guard {
    /// Has signals begin the shutdown of `handle`, except those that are hooked. They are registered when
    /// this returns.
    pub(super) async fn arm(handle: &ShutdownHandle, hooks: Vec<Signal>) -> Self {
        let (sender, hooked) = mpsc::unbounded_channel();
        let post = Arc::new(Post {
            handle: handle.clone(),
            hooks,
            hooked: sender,
            times: Mutex::default(),
        });
        posts().armed.push(Arc::clone(&post));
        let guard = Self { post, hooked };
        let thread = posts().thread.clone();
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
                    log::no_signals(&error);
                }
            }
        }
        guard
    }

    /// How long after the first signal the process has to be gone, if a watchdog is to see to it.
    pub(super) fn allow(&self, allowed: Option<Duration>) {
        lock(&self.post.times).allowed = allowed;
    }

    /// The process has to be gone by then: the watchdog forces its end otherwise, also after this guard
    /// is dropped.
    pub(super) fn watch(&self, gone_within: Duration) {
        lock(&self.post.times).gone_by = Some(after(Instant::now(), gone_within));
        self.look();
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

    fn look(&self) {
        if let Some(thread) = &posts().thread {
            // The thread ends with the process.
            let _ = thread.send(Ask::Look);
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
        let mut forced: Vec<_> = armed.filter(|post| post.tell(signal, now)).cloned().collect();
        if posts.armed.is_empty() {
            let last = posts.last.iter();
            forced.extend(last.filter(|post| post.tells_again(now)).cloned());
        }
        (forced, !posts.armed.is_empty())
    };
    if !forced.is_empty() {
        end(Force::Signal(signal), &forced, running);
    }
}

/// Whom the watchdog watches.
fn watched(posts: &Posts) -> impl Iterator<Item = &Arc<Post>> {
    posts.armed.iter().chain(&posts.last)
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
        posts.armed.iter().for_each(|post| post.look(now));
        let is_late = |post: &&Arc<Post>| lock(&post.times).gone_by.is_some_and(|by| now >= by);
        let late: Vec<_> = watched(&posts).filter(is_late).cloned().collect();
        (late, !posts.armed.is_empty())
    };
    if !late.is_empty() {
        end(Force::Watchdog, &late, running);
    }
}

fn end(by: Force, posts: &[Arc<Post>], running: bool) -> ! {
    let plans: Vec<_> = posts.iter().filter_map(|post| post.handle.live()).collect();
    let early = running && plans.len() < posts.len();
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
        match times.first {
            Some(first) if now.saturating_duration_since(first) < SAME => false,
            Some(_) if self.handle.end_lame_duck() => {
                times.first = Some(now);
                false
            }
            Some(_) => true,
            None => {
                times.first = Some(now);
                // Already here, since a blocked executor never gets to do it.
                times.gone_by = times.allowed.map(|allowed| after(now, allowed));
                drop(times);
                self.handle.request(Reason::Signal(signal));
                false
            }
        }
    }

    /// The runner has ended, so nobody else will act on it.
    fn tells_again(&self, now: Instant) -> bool {
        let first = lock(&self.times).first;
        first.is_none_or(|first| now.saturating_duration_since(first) >= SAME)
    }

    /// Says once that the executor does not get to the plan, and who holds it.
    fn look(&self, now: Instant) {
        let Some(live) = self.handle.live() else { return };
        let since = live.origin.since_beat(now);
        let mut times = lock(&self.times);
        let blocked = times.gone_by.is_some() && live.report().is_none() && since > BLOCKED;
        if blocked && !times.said_blocked {
            log::executor_blocked(&live, since);
        }
        times.said_blocked = blocked;
    }
}

//! The guard: one thread of the process that hears signals, whatever the executors do.
//!
//! It is started by the first [`Runner`](crate::Runner) and stays: tokio never restores a signal's
//! default action, so once somebody has listened, somebody has to go on, until the process is gone.
//!
//! Per signal, for each runner that is armed: the first asks for its shutdown; one soon after it is the same request; the
//! second hurries, the third forces the end of the process. When no runner is armed any more, any signal does.
//!
//! The same thread is the watchdog of runners that asked for one, and ends a process whose runtime cannot end.

mod armed;
mod runtime_end;
mod thread;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::options::SecondSignal;
use crate::{Report, ShutdownHandle, Signal, log};

pub(super) use armed::Phase;
use armed::{ArmedRunner, Status};
use runtime_end::{RuntimeBound, RuntimeEnd};

/// A runner that hears signals. Dropped when it has ended.
pub(super) struct Guard {
    runner: Arc<ArmedRunner>,
    hooked: mpsc::UnboundedReceiver<Signal>,
    /// Ends the watchdog's wait for the request.
    over: Option<DropGuard>,
}

/// The runners that are armed.
#[derive(Default)]
struct Registry {
    armed: Vec<Arc<ArmedRunner>>,
    /// The last of those that ended: what a forced end then tells of.
    last: Option<Arc<ArmedRunner>>,
    /// Reaches the thread.
    thread: Option<mpsc::UnboundedSender<Command>>,
    /// Bounds the end of the runtime that the last runner ran on.
    bound: Option<RuntimeBound>,
}

/// Something asked of the thread.
enum Command {
    /// Hear this signal too.
    Hear(Signal, oneshot::Sender<io::Result<()>>),
    /// Watch this runner from its request on, unless it ended before.
    Watch(Arc<ArmedRunner>, CancellationToken),
    /// Look again: there is a new time to do so.
    Look,
    /// See to it that the process ends, whose runtime is being dropped.
    RuntimeEnds(RuntimeEnd),
}

static REGISTRY: OnceLock<Mutex<Registry>> = OnceLock::new();

/// Locks the registry. No foreign code runs under it.
fn registry() -> MutexGuard<'static, Registry> {
    lock(REGISTRY.get_or_init(Mutex::default))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn send(command: Command) {
    if let Some(thread) = &registry().thread {
        // The thread ends with the process.
        let _ = thread.send(command);
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
        let runner = Arc::new(ArmedRunner {
            handle: handle.clone(),
            hooks,
            hooked: sender,
            second,
            status: Mutex::default(),
        });
        let (thread, bound) = {
            let mut registry = registry();
            registry.armed.push(Arc::clone(&runner));
            (registry.thread.clone(), registry.bound.take())
        };
        if let Some(bound) = bound {
            // The program goes on after all.
            bound.lift().await;
        }
        let guard = Self {
            runner,
            hooked,
            over: None,
        };
        let thread = match thread {
            Some(thread) => Some(thread),
            None => thread::listen().await,
        };
        for &signal in &guard.runner.hooks {
            let (heard, when_heard) = oneshot::channel();
            let asked = thread.as_ref().is_some_and(|thread| {
                let command = Command::Hear(signal, heard);
                thread.send(command).is_ok()
            });
            if asked {
                if let Ok(Err(error)) = when_heard.await {
                    log::not_hooked(signal, &error);
                }
            }
        }
        guard
    }

    fn status(&self) -> MutexGuard<'_, Status> {
        lock(&self.runner.status)
    }

    /// Says what the runner does from now on.
    pub(super) fn enter(&self, phase: Phase) {
        self.status().phase = phase;
    }

    /// Has the process be gone within `allowed` of the request. Otherwise the watchdog forces its end, also after this
    /// guard is dropped.
    pub(super) fn watch(&mut self, allowed: Option<Duration>) {
        self.status().allowed = allowed;
        if allowed.is_some() && self.over.is_none() {
            let over = CancellationToken::new();
            self.over = Some(over.clone().drop_guard());
            send(Command::Watch(Arc::clone(&self.runner), over));
        }
    }

    /// Notes that the shutdown begins now.
    pub(super) fn begins(&self) {
        self.runner.asked(Instant::now());
    }

    /// Turns the watchdog off: what comes now is the caller's.
    pub(super) fn unwatch(&self) {
        self.status().allowed = None;
    }

    /// Has the process end with the report's code if its runtime is dropped and waits for its blocking pool for longer than
    /// `timeout`.
    pub(super) fn bound_runtime(&self, report: &Report, timeout: Option<Duration>) {
        let bound = runtime_end::bound(&self.runner, report, timeout);
        registry().bound = bound;
    }

    /// The next signal that is hooked.
    pub(super) fn poll_hooked(&mut self, cx: &mut Context<'_>) -> Poll<Signal> {
        match self.hooked.poll_recv(cx) {
            Poll::Ready(Some(signal)) => Poll::Ready(signal),
            // The sender is this guard's runner's.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.enter(Phase::Ended);
        let mut registry = registry();
        let is_other = |runner: &Arc<ArmedRunner>| !Arc::ptr_eq(runner, &self.runner);
        registry.armed.retain(is_other);
        registry.last = Some(Arc::clone(&self.runner));
    }
}

//! The guard: one thread of the process that receives signals, even while executors are blocked.
//!
//! The first [`Runner`](crate::Runner) of the process starts the thread, which never ends: tokio does not restore a
//! signal's default action, so once the process listens for a signal, something must react to the signal until the
//! process is gone.
//!
//! For each armed runner the first signal requests its shutdown, and a signal soon after that is ignored as a
//! duplicate. The second signal hurries the shutdown, the third one forces the end of the process. When no runner is
//! armed any more, any signal forces the end.
//!
//! The same thread is the watchdog of the runners that asked for one. The thread also ends a process whose runtime
//! cannot end.

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

/// The guard of a runner that receives signals. Dropping the guard disarms the runner.
pub(super) struct Guard {
    runner: Arc<ArmedRunner>,
    hooked: mpsc::UnboundedReceiver<Signal>,
    /// The token whose drop ends the watchdog's wait for a request.
    over: Option<DropGuard>,
}

/// The armed runners of the process.
#[derive(Default)]
struct Registry {
    armed: Vec<Arc<ArmedRunner>>,
    /// The runner that ended last. A forced end after that describes this runner.
    last: Option<Arc<ArmedRunner>>,
    /// The channel that sends commands to the guard's thread. `None` before the thread is started.
    thread: Option<mpsc::UnboundedSender<Command>>,
    /// The time limit for the end of the runtime on which the last runner ran.
    bound: Option<RuntimeBound>,
}

/// A command to the guard's thread.
enum Command {
    /// Listen for one more signal, and answer when the signal is registered.
    Hear(Signal, oneshot::Sender<io::Result<()>>),
    /// Watch this runner once its shutdown is requested. The token is cancelled if the runner ends before that.
    Watch(Arc<ArmedRunner>, CancellationToken),
    /// Check the watchdog's deadlines again, since the next deadline has changed.
    Check,
    /// Make sure that the process ends: its runtime is being dropped.
    RuntimeEnds(RuntimeEnd),
}

static REGISTRY: OnceLock<Mutex<Registry>> = OnceLock::new();

/// Locks the registry. No foreign code may run while the lock is held.
fn registry() -> MutexGuard<'static, Registry> {
    lock(REGISTRY.get_or_init(Mutex::default))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn send(command: Command) {
    if let Some(thread) = &registry().thread {
        // Sending cannot fail: the thread lives as long as the process.
        let _ = thread.send(command);
    }
}

impl Guard {
    /// Arms a runner: signals request the shutdown of `handle`, except those in `hooks`. The signals are registered
    /// when this function returns.
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
            // The limit of the previous runner is lifted: the program has continued after that runner, so the end of
            // its runtime must not end the process.
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

    /// Records the phase that the runner enters now.
    pub(super) fn enter(&self, phase: Phase) {
        self.status().phase = phase;
    }

    /// Limits the life of the process to `allowed` after the request. If the process lives longer, the watchdog forces
    /// its end, even after this guard is dropped.
    pub(super) fn watch(&mut self, allowed: Option<Duration>) {
        self.status().allowed = allowed;
        if allowed.is_some() && self.over.is_none() {
            let over = CancellationToken::new();
            self.over = Some(over.clone().drop_guard());
            send(Command::Watch(Arc::clone(&self.runner), over));
        }
    }

    /// Records that the shutdown begins now, even if no signal requested it.
    pub(super) fn record_begin(&self) {
        self.runner.record_request(Instant::now());
    }

    /// Disarms the watchdog, since the caller's own code runs from now on.
    pub(super) fn unwatch(&self) {
        self.status().allowed = None;
    }

    /// Limits the time of the runtime's end: if the runtime is dropped and waits for its blocking pool for longer than
    /// `timeout`, the process exits with the report's code.
    pub(super) fn bound_runtime(&self, report: &Report, timeout: Option<Duration>) {
        let bound = runtime_end::bound(&self.runner, report, timeout);
        registry().bound = bound;
    }

    /// Waits for the next signal that has a hook.
    pub(super) fn poll_hooked(&mut self, cx: &mut Context<'_>) -> Poll<Signal> {
        match self.hooked.poll_recv(cx) {
            Poll::Ready(Some(signal)) => Poll::Ready(signal),
            // The channel never closes, since this guard's runner holds its sender.
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

//! A runtime that cannot end: it waits for its blocking pool, and that for a call which never returns.
//!
//! The most common one is a read of stdin: tokio does it on the blocking pool, and nothing can cut it. `run` has returned
//! by then and holds nothing; so a task is left on the runtime whose drop says that the runtime is ending. What a program
//! does after that must not be cut. So the process is ended only if all of this holds (on Linux, which alone tells it):
//!
//! 1. `run` was polled on the main thread, which is where `#[tokio::main]` drops its runtime. Tests and embedders run
//!    elsewhere.
//! 2. The main thread has not run at all for the whole time: it is in one wait.
//! 3. A thread of that runtime's name still lives.

use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};
use std::{fs, process, thread};

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::super::force;
use super::armed::{ArmedRunner, Phase};
use super::{Command, lock, send};
use crate::context::after;
use crate::engine::Timer;
use crate::{Report, clock};

/// How often the threads are looked at.
const LOOK: Duration = Duration::from_millis(250);

/// How long an aborted task may take to go.
const LIFT: Duration = Duration::from_secs(1);

/// What there is to know once the runtime ends.
pub(super) struct RuntimeEnd {
    report: Report,
    timeout: Duration,
    threads: Arc<ThreadName>,
}

/// The name of the runtime's threads, once one of them has told it.
type ThreadName = std::sync::OnceLock<String>;

/// Left on the runtime in a task of its own: dropped with the runtime.
struct Sentinel {
    runner: Arc<ArmedRunner>,
    end: Option<RuntimeEnd>,
    lifted: Arc<AtomicBool>,
}

/// A bound on the end of a runtime.
pub(super) struct RuntimeBound {
    lifted: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl RuntimeBound {
    /// Takes it back, with the task that was left on the runtime. Its end is awaited, but not for long: nobody may be
    /// driving that runtime.
    pub(super) async fn lift(mut self) {
        // Relaxed: a task is aborted after it, which orders the two.
        self.lifted.store(true, Ordering::Relaxed);
        self.task.abort();
        let until = after(clock::now(), LIFT);
        let mut timer = Timer::new();
        poll_fn(|cx| match Pin::new(&mut self.task).poll(cx) {
            Poll::Ready(_) => Poll::Ready(()),
            Poll::Pending => timer.poll(Some(until), cx),
        })
        .await;
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        if self.lifted.load(Ordering::Relaxed) {
            return;
        }
        lock(&self.runner.status).phase = Phase::RuntimeEnds;
        if let Some(end) = self.end.take() {
            send(Command::RuntimeEnds(end));
        }
    }
}

/// Notes when the runtime that this is called on ends, and bounds its end.
pub(super) fn bound(
    runner: &Arc<ArmedRunner>,
    report: &Report,
    timeout: Option<Duration>,
) -> Option<RuntimeBound> {
    let is_main = thread::current().name() == Some("main");
    let runtime = Handle::try_current().ok().filter(|_| is_main)?;
    let timeout = timeout.filter(|_| main_switches().is_some());
    let end = timeout.map(|timeout| {
        let threads = Arc::new(ThreadName::new());
        let tells = Arc::clone(&threads);
        // Not awaited: the pool may be full of calls that never return, and then nothing is known.
        runtime.spawn_blocking(move || tells.set(own_name().unwrap_or_default()));
        RuntimeEnd {
            report: report.clone(),
            timeout,
            threads,
        }
    });
    let lifted = Arc::new(AtomicBool::new(false));
    let sentinel = Sentinel {
        runner: Arc::clone(runner),
        end,
        lifted: Arc::clone(&lifted),
    };
    let task = runtime.spawn(async move {
        let _sentinel = sentinel;
        pending::<()>().await;
    });
    Some(RuntimeBound { lifted, task })
}

impl RuntimeEnd {
    /// Waits until the runtime has ended, or ends the process.
    pub(super) async fn watch(self) {
        let mut switches = main_switches();
        let mut since = Instant::now();
        loop {
            sleep(LOOK).await;
            let now = main_switches();
            let threads = self.threads.get();
            let lives = threads.is_some_and(|name| lives(name));
            if now.is_none() || !lives {
                return;
            }
            if now != switches {
                switches = now;
                since = Instant::now();
            } else if since.elapsed() >= self.timeout {
                force::end_runtime(self.timeout, self.report);
            }
        }
    }
}

/// How often the main thread has given up the processor, from proc(5).
fn main_switches() -> Option<String> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    let id = process::id();
    let status = fs::read_to_string(format!("/proc/self/task/{id}/status")).ok()?;
    let switches = status.lines().filter(|line| line.contains("ctxt_switches"));
    Some(switches.collect())
}

/// The name of this thread, as the kernel keeps it.
fn own_name() -> Option<String> {
    fs::read_to_string("/proc/thread-self/comm").ok()
}

/// Whether a thread of this name lives.
fn lives(name: &str) -> bool {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten();
    let mut names = threads.flatten().map(|thread| thread.path().join("comm"));
    names.any(|comm| fs::read_to_string(comm).is_ok_and(|comm| comm == name))
}

//! The time limit for a runtime that cannot end, because its blocking pool runs a call that never returns.
//!
//! Most often that call is a read of stdin, which tokio does on the blocking pool and nothing can interrupt. By then
//! the runner's `run` has returned. So `run` leaves a task on the runtime, and the drop of that task shows that the
//! runtime is ending. Anything else that the program does at that time must not be cut. So the process is ended only if
//! all of the following holds, which only Linux shows:
//!
//! 1. `run` was polled on the main thread, where `#[tokio::main]` drops its runtime. Tests and embedding programs run
//!    it on other threads.
//! 2. The main thread has not run at all for the whole timeout, so it has been in one single wait.
//! 3. A thread with the name of the runtime's threads still lives.

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

/// The time between two checks of the process's threads.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// The time to wait until the task that was left on the runtime has ended after it was aborted.
const LIFT_TIMEOUT: Duration = Duration::from_secs(1);

/// The data that the guard's thread needs once the runtime ends.
pub(super) struct RuntimeEnd {
    report: Report,
    timeout: Duration,
    threads: Arc<ThreadName>,
}

/// The name of the runtime's threads. It is empty until one of the threads has reported it.
type ThreadName = std::sync::OnceLock<String>;

/// A value in a task that `run` leaves on the runtime. The runtime drops the value when the runtime ends.
struct Sentinel {
    runner: Arc<ArmedRunner>,
    end: Option<RuntimeEnd>,
    lifted: Arc<AtomicBool>,
}

/// A time limit for the end of a runtime.
pub(super) struct RuntimeBound {
    lifted: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl RuntimeBound {
    /// Removes the limit, and aborts the task on the runtime. Waits until the task has ended, but only for
    /// [`LIFT_TIMEOUT`], since nothing may drive the runtime any more.
    pub(super) async fn lift(mut self) {
        // Relaxed is enough: aborting the task makes this store happen before the task's drop.
        self.lifted.store(true, Ordering::Relaxed);
        self.task.abort();
        let until = after(clock::now(), LIFT_TIMEOUT);
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

/// Limits the end of the runtime on which this function is called. Returns `None` outside a runtime, and on any thread
/// but the main thread.
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
        let sets = Arc::clone(&threads);
        // The result is not awaited: calls that never return may fill the blocking pool, and then the name stays
        // unknown.
        runtime.spawn_blocking(move || sets.set(own_name().unwrap_or_default()));
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
    /// Waits until the runtime has ended. If the time limit passes first, ends the process.
    pub(super) async fn watch(self) {
        let mut switches = main_switches();
        let mut since = Instant::now();
        loop {
            sleep(CHECK_INTERVAL).await;
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

/// Returns how often the main thread has given up the processor, as text from `/proc` (see proc(5)).
fn main_switches() -> Option<String> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    let id = process::id();
    let status = fs::read_to_string(format!("/proc/self/task/{id}/status")).ok()?;
    let switches = status.lines().filter(|line| line.contains("ctxt_switches"));
    Some(switches.collect())
}

/// Returns the name of this thread, as the kernel stores it.
fn own_name() -> Option<String> {
    fs::read_to_string("/proc/thread-self/comm").ok()
}

/// Returns whether a thread of this name lives.
fn lives(name: &str) -> bool {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten();
    let mut names = threads.flatten().map(|thread| thread.path().join("comm"));
    names.any(|comm| fs::read_to_string(comm).is_ok_and(|comm| comm == name))
}

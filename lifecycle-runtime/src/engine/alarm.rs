//! The one thread that wakes all plans that wait in real time. The thread ends when no plan waits.

use std::collections::HashMap;
use std::sync::{Condvar, LazyLock, Mutex};
use std::task::Waker;
use std::thread;
use std::time::Instant;

use super::{contain, lock};
use crate::{clock, log};

/// A wake-up in real time. Dropping it cancels the wake-up.
#[derive(Debug)]
pub(super) struct Alarm {
    id: u64,
}

#[derive(Default)]
struct Alarms {
    next_id: u64,
    set: HashMap<u64, (Instant, Waker)>,
    /// The state of the timer thread. `None` if the thread is not running.
    thread: Option<Waiting>,
}

/// The activity of the timer thread.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waiting {
    /// The thread is about to check for due alarms.
    Looks,
    Until(Instant),
}

static ALARMS: LazyLock<Mutex<Alarms>> = LazyLock::new(Mutex::default);
static CHANGED: Condvar = Condvar::new();

impl Alarm {
    pub(super) fn new(at: Instant, waker: &Waker) -> Self {
        let id = {
            let mut alarms = lock(&ALARMS);
            alarms.next_id += 1;
            alarms.next_id
        };
        let alarm = Self { id };
        alarm.set(at, waker);
        alarm
    }

    /// Sets the alarm: the thread wakes `waker` at `at`, on the library's clock. Replaces an earlier setting.
    pub(super) fn set(&self, at: Instant, waker: &Waker) {
        // The instant is converted, since tokio's clock differs from real time if a test has advanced it.
        let at = Instant::now() + at.saturating_duration_since(clock::now());
        // A waker is foreign code, so it is cloned and dropped outside the lock. If cloning the waker panics, the task
        // cannot be woken.
        let Ok(waker) = contain(|| waker.clone()) else {
            return;
        };
        let mut alarms = lock(&ALARMS);
        let old = alarms.set.insert(self.id, (at, waker));
        match alarms.thread {
            None => {
                alarms.thread = Some(Waiting::Looks);
                drop(alarms);
                start();
            }
            Some(Waiting::Until(until)) if at < until => {
                alarms.thread = Some(Waiting::Looks);
                CHANGED.notify_one();
            }
            Some(_) => {}
        }
        let _ = contain(|| drop(old));
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let mut alarms = lock(&ALARMS);
        let old = alarms.set.remove(&self.id);
        if alarms.set.is_empty() {
            CHANGED.notify_one();
        }
        drop(alarms);
        let _ = contain(|| drop(old));
    }
}

fn start() {
    let spawned = thread::Builder::new()
        .name("lifecycle-timer".into())
        .spawn(run);
    if let Err(error) = spawned {
        lock(&ALARMS).thread = None;
        log::no_timer(&error);
    }
}

fn run() {
    let mut alarms = lock(&ALARMS);
    loop {
        let now = Instant::now();
        let due: Vec<_> = alarms
            .set
            .iter()
            .filter(|(_, (at, _))| *at <= now)
            .map(|(id, _)| *id)
            .collect();
        if !due.is_empty() {
            let due: Vec<_> = due.iter().filter_map(|id| alarms.set.remove(id)).collect();
            // The lock is released first, since a waker is foreign code: some executors poll in `wake`.
            drop(alarms);
            for (_, waker) in due {
                let _ = contain(|| waker.wake());
            }
            alarms = lock(&ALARMS);
            continue;
        }
        let Some(next) = alarms.set.values().map(|(at, _)| *at).min() else {
            alarms.thread = None;
            return;
        };
        alarms.thread = Some(Waiting::Until(next));
        let waited = CHANGED.wait_timeout(alarms, next.saturating_duration_since(now));
        alarms = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        alarms.thread = Some(Waiting::Looks);
    }
}

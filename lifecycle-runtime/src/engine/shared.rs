//! The state that all plans of one shutdown share.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, OnceLock};
use std::task::Waker;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::{contain, lock};
use crate::Reason;
use crate::reason::Force;
use crate::report::Cut;

/// The state that all plans of one shutdown share.
pub(crate) struct ShutdownShared {
    pub(crate) reason: Reason,
    pub(crate) began: Instant,
    /// The cause that forced the end of the shutdown: an encoded [`Force`], or 0 as long as nothing did.
    forced: AtomicI32,
    hurried: AtomicBool,
    /// The time when the outermost plan was last polled, in milliseconds of real time since [`EPOCH`].
    heartbeat: AtomicU64,
    /// The waker of the task that polls the outermost plan. A forced end or a hurry wakes that task.
    waker: Mutex<Option<Waker>>,
    /// The channel that counts the changes of rows. It is created for the first watcher.
    changes: OnceLock<watch::Sender<u64>>,
}

static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

fn since_epoch() -> u64 {
    u64::try_from(EPOCH.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl ShutdownShared {
    pub(crate) fn new(reason: Reason, began: Instant) -> Arc<Self> {
        Arc::new(Self {
            reason,
            began,
            forced: AtomicI32::new(0),
            hurried: AtomicBool::new(false),
            heartbeat: AtomicU64::new(since_epoch()),
            waker: Mutex::new(None),
            changes: OnceLock::new(),
        })
    }

    pub(crate) fn forced(&self) -> Option<Force> {
        // This Acquire pairs with the store in `force`: a reader that sees the mark sees everything before the store.
        Force::from_raw(self.forced.load(Ordering::Acquire))
    }

    pub(crate) fn is_hurried(&self) -> bool {
        // Acquire, as in `forced`: a reader that sees the mark sees everything before the store.
        self.hurried.load(Ordering::Acquire)
    }

    /// Returns whether the shutdown was forced or hurried so far.
    pub(crate) fn cut(&self) -> Cut {
        Cut {
            forced: self.forced(),
            hurried: self.is_hurried(),
        }
    }

    /// Ends every running step as aborted, as soon as the executor polls the step.
    pub(crate) fn force(&self, by: Force) {
        self.forced.store(by.as_raw(), Ordering::Release);
        self.wake();
    }

    /// Ends every running `best_effort` step as aborted, as soon as the executor polls the step.
    pub(crate) fn hurry(&self) {
        self.hurried.store(true, Ordering::Release);
        self.wake();
    }

    fn wake(&self) {
        // The task is woken outside the lock, since some executors poll in `wake`.
        let waker = lock(&self.waker).take();
        if let Some(waker) = waker {
            let _ = contain(|| waker.wake());
        }
    }

    /// Stores `waker`, to be woken by a forced end or a hurry. Call this before you check whether the end was forced or
    /// hurried.
    pub(crate) fn register(&self, waker: &Waker) {
        // A waker is foreign code, so it is cloned and dropped outside the lock.
        let Ok(new) = contain(|| waker.clone()) else {
            return;
        };
        let old = lock(&self.waker).replace(new);
        let _ = contain(|| drop(old));
    }

    /// Records that the executor polled the plan.
    pub(crate) fn record_heartbeat(&self) {
        // Relaxed is enough: the value is only compared with the time.
        self.heartbeat.store(since_epoch(), Ordering::Relaxed);
    }

    /// Returns how long ago the executor last polled the plan.
    pub(crate) fn since_heartbeat(&self, now: Instant) -> Duration {
        let beat = Duration::from_millis(self.heartbeat.load(Ordering::Relaxed));
        now.saturating_duration_since(*EPOCH).saturating_sub(beat)
    }

    /// Notifies the watchers that a row has changed. A watcher that subscribes later reads the rows first, so it misses
    /// nothing.
    pub(crate) fn changed(&self) {
        if let Some(changes) = self.changes.get() {
            // The call is contained, since the wakers of receivers are foreign code.
            let _ = contain(|| changes.send_modify(|count| *count = count.wrapping_add(1)));
        }
    }

    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.changes
            .get_or_init(|| watch::Sender::new(0))
            .subscribe()
    }
}

//! What all plans of one shutdown share.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, OnceLock};
use std::task::Waker;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::{contain, lock};
use crate::Reason;
use crate::reason::Force;
use crate::report::Cut;

/// What all plans of one shutdown share.
pub(crate) struct ShutdownShared {
    pub(crate) reason: Reason,
    pub(crate) began: Instant,
    /// What forces the end, or 0.
    forced: AtomicI32,
    hurried: AtomicBool,
    /// When a root was last polled, in milliseconds of real time since [`EPOCH`].
    heartbeat: AtomicU64,
    /// The task that polls the root. Woken by a forced end and by a hurry.
    waker: Mutex<Option<Waker>>,
    /// Counts changes. Made when the first watcher comes.
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
        // Acquire pairs with the store in `force`: a reader that sees the mark sees what came before it.
        Force::from_raw(self.forced.load(Ordering::Acquire))
    }

    pub(crate) fn is_hurried(&self) -> bool {
        // Acquire, as for `forced`.
        self.hurried.load(Ordering::Acquire)
    }

    /// What has cut the shutdown short so far.
    pub(crate) fn cut(&self) -> Cut {
        Cut {
            forced: self.forced(),
            hurried: self.is_hurried(),
        }
    }

    /// Cuts every step as soon as the executor gets to it.
    pub(crate) fn force(&self, by: Force) {
        self.forced.store(by.as_raw(), Ordering::Release);
        self.wake();
    }

    /// Cuts every `best_effort` step as soon as the executor gets to it.
    pub(crate) fn hurry(&self) {
        self.hurried.store(true, Ordering::Release);
        self.wake();
    }

    fn wake(&self) {
        // Woken outside the lock, since some executors poll at once.
        let waker = lock(&self.waker).take();
        if let Some(waker) = waker {
            let _ = contain(|| waker.wake());
        }
    }

    /// Keeps `waker` to be woken by a forced end or a hurry. Call it before looking whether there was one.
    pub(crate) fn register(&self, waker: &Waker) {
        // Cloned and dropped outside the lock: a waker is foreign code.
        let Ok(new) = contain(|| waker.clone()) else {
            return;
        };
        let old = lock(&self.waker).replace(new);
        let _ = contain(|| drop(old));
    }

    /// Notes that the executor got to the plan.
    pub(crate) fn beat(&self) {
        // Relaxed: only compared with the time.
        self.heartbeat.store(since_epoch(), Ordering::Relaxed);
    }

    /// How long ago the executor last got to the plan.
    pub(crate) fn since_heartbeat(&self, now: Instant) -> Duration {
        let beat = Duration::from_millis(self.heartbeat.load(Ordering::Relaxed));
        now.saturating_duration_since(*EPOCH).saturating_sub(beat)
    }

    /// Tells the watchers that a row changed. A watcher that comes later looks at the rows first.
    pub(crate) fn changed(&self) {
        if let Some(changes) = self.changes.get() {
            // Receivers may be wakers of foreign executors.
            let _ = contain(|| changes.send_modify(|count| *count = count.wrapping_add(1)));
        }
    }

    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.changes
            .get_or_init(|| watch::Sender::new(0))
            .subscribe()
    }
}

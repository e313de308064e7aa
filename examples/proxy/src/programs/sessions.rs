//! Sessions: what is kept for a client under a name, until the client ends it or
//! is not heard of for too long.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use lifecycle_runtime::{BoxError, Component, Context, GracefulShutdown};
use moka::future::Cache;
use moka::policy::EvictionPolicy;
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;

use crate::protection::load::Used;

/// How often sessions that have expired are looked for, at least.
const LONGEST_TICK: Duration = Duration::from_secs(5);

/// What is kept for a client.
pub trait Session: Send + Sync + 'static {
    /// Gives up all it has, at once or as soon as that can be.
    fn end(&self);

    /// Whether it is in use though nobody asks for it.
    fn is_held(&self) -> bool {
        false
    }
}

/// The owner of sessions.
#[derive(Debug, GracefulShutdown)]
#[shutdown(part, strict, timeout = "500ms")]
pub struct Sessions<S: Session> {
    /// Ends those that have expired: the cache does so only when it is used.
    #[shutdown(priority = 0, timeout = "100ms")]
    ticks: AbortOnDropHandle<()>,
    /// Ends the others.
    #[shutdown(priority = 10, timeout = "300ms")]
    shelf: Shelf<S>,
}

impl<S: Session> Sessions<S> {
    /// None yet. One that is not used for `idle` is ended, and so is the one that
    /// was not used for longest when there are `most`. All are counted in
    /// `total`.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[must_use]
    pub fn new(idle: Duration, most: u64, total: &SessionCount) -> (Self, Shelf<S>) {
        let shelf = Shelf {
            cache: Cache::builder()
                .time_to_idle(idle)
                .max_capacity(most)
                .eviction_policy(EvictionPolicy::lru())
                .eviction_listener(|_, session: Arc<S>, _| session.end())
                .build(),
            count: SessionCount::part_of(total),
            closed: Arc::default(),
        };
        let ticking = shelf.clone();
        let ticks = tokio::spawn(async move {
            let mut ticks = interval((idle / 4).min(LONGEST_TICK));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                ticking.tick().await;
            }
        });
        let owner = Self {
            ticks: AbortOnDropHandle::new(ticks),
            shelf: shelf.clone(),
        };
        (owner, shelf)
    }
}

impl<S: Session> Drop for Sessions<S> {
    /// Who could have awaited it is gone.
    fn drop(&mut self) {
        self.ticks.abort();
    }
}

/// Where sessions are found by their names. A cheap clone: dropping one changes
/// nothing.
pub struct Shelf<S: Session> {
    cache: Cache<String, Arc<S>>,
    count: SessionCount,
    closed: Arc<AtomicBool>,
}

impl<S: Session> Clone for Shelf<S> {
    fn clone(&self) -> Self {
        Self {
            cache: self.cache.clone(),
            count: self.count.clone(),
            closed: self.closed.clone(),
        }
    }
}

impl<S: Session> Shelf<S> {
    /// Counts a session, which is to have what this returns as long as it lasts.
    #[must_use]
    pub fn enter(&self) -> Entered {
        self.count.enter()
    }

    /// Keeps a session under a name that cannot be guessed. None once the
    /// shutdown has begun.
    pub async fn begin(&self, session: S) -> Option<String> {
        let name = name()?;
        self.keep(name.clone(), session).await.then_some(name)
    }

    /// Keeps a session under this name, in the place of any other. Ends it, and
    /// says so, once the shutdown has begun.
    pub async fn keep(&self, name: String, session: S) -> bool {
        self.cache.insert(name.clone(), Arc::new(session)).await;
        // Tested after, so that one of the two sees the other: this the closing,
        // or that the session.
        if self.closed.load(Ordering::SeqCst) {
            self.end(&name).await;
            return false;
        }
        true
    }

    /// The session of this name, which is used now.
    pub async fn find(&self, name: &str) -> Option<Arc<S>> {
        self.cache.get(name).await
    }

    /// Ends a session. Whether there was one.
    pub async fn end(&self, name: &str) -> bool {
        self.cache.remove(name).await.is_some()
    }

    /// How many have not ended.
    #[must_use]
    pub fn used(&self) -> Used {
        self.count.used()
    }

    async fn tick(&self) {
        let held = self.cache.iter().filter(|(_, session)| session.is_held());
        let held: Vec<_> = held.map(|(name, _)| name).collect();
        for name in held {
            // To look is to use.
            self.find(&name).await;
        }
        self.cache.run_pending_tasks().await;
    }

    async fn end_all(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.cache.invalidate_all();
        while self.cache.entry_count() > 0 {
            self.cache.run_pending_tasks().await;
            tokio::task::yield_now().await;
        }
    }
}

impl<S: Session> Component for Shelf<S> {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        let count = self.count.clone();
        cx.waiting_for(move || format!("{} sessions", count.used().active));
        // What was inserted is counted only then.
        self.cache.run_pending_tasks().await;
        self.end_all().await;
        Ok(())
    }
}

impl<S: Session> fmt::Debug for Shelf<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelf")
            .field("active", &self.used().active)
            .finish_non_exhaustive()
    }
}

/// Sessions that have not ended, counted. A cheap clone.
#[derive(Clone, Debug, Default)]
pub struct SessionCount(Arc<Count>);

#[derive(Debug, Default)]
struct Count {
    active: AtomicU64,
    peak: AtomicU64,
    total: Option<SessionCount>,
}

impl SessionCount {
    /// A count whose sessions are counted in `total` as well.
    #[must_use]
    pub fn part_of(total: &Self) -> Self {
        Self(Arc::new(Count {
            total: Some(total.clone()),
            ..Count::default()
        }))
    }

    /// How many there are, and were at most.
    #[must_use]
    pub fn used(&self) -> Used {
        Used {
            active: self.0.active.load(Ordering::Relaxed),
            peak: self.0.peak.load(Ordering::Relaxed),
        }
    }

    fn enter(&self) -> Entered {
        let active = self.0.active.fetch_add(1, Ordering::Relaxed) + 1;
        self.0.peak.fetch_max(active, Ordering::Relaxed);
        Entered {
            count: self.clone(),
            _total: self.0.total.as_ref().map(|total| Box::new(total.enter())),
        }
    }
}

/// One of them.
#[derive(Debug)]
pub struct Entered {
    count: SessionCount,
    _total: Option<Box<Entered>>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.count.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// 128 bits that nobody can guess.
fn name() -> Option<String> {
    let mut bytes = [0; 16];
    let read = getrandom(&mut bytes, GetRandomFlags::empty()).ok()?;
    (read == bytes.len()).then(|| format!("{:032x}", u128::from_be_bytes(bytes)))
}

#[cfg(test)]
mod tests;

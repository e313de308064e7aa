//! Sessions: values that are stored under a name for a client, until the client ends its session or
//! is silent for too long.
//!
//! [`Sessions`] is a part that a server has as a field, and ends all sessions at shutdown.
//! [`Store`] is a handle with which requests create and find sessions.
//!
//! ```
//! use std::sync::atomic::{AtomicBool, Ordering};
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use lifecycle_proxy_sessions::{Session, SessionCount, Sessions};
//! use lifecycle_runtime::{GracefulShutdown, ShutdownState};
//!
//! struct Cart(Arc<AtomicBool>);
//!
//! impl Session for Cart {
//!     fn end(&self) {
//!         self.0.store(true, Ordering::Relaxed);
//!     }
//! }
//!
//! #[derive(GracefulShutdown)]
//! struct Server {
//!     #[shutdown]
//!     carts: Sessions<Cart>,
//!     #[shutdown(state)]
//!     state: ShutdownState,
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let all = SessionCount::default();
//! let (carts, store) = Sessions::new(Duration::from_secs(600), 100, &all);
//! let mut server = Server { carts, state: ShutdownState::new() };
//! let ended = Arc::new(AtomicBool::new(false));
//! let name = store.create(Cart(ended.clone())).await.expect("no shutdown has begun");
//! assert!(store.find(&name).await.is_some());
//! assert!(server.shutdown().await.is_clean());
//! assert!(ended.load(Ordering::Relaxed));
//! assert!(store.create(Cart(ended)).await.is_none(), "too late");
//! # }
//! ```

#![forbid(unsafe_code)]
#![warn(missing_docs)]

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use lifecycle_proxy_common::Used;
use lifecycle_runtime::{BoxError, Component, Context, GracefulShutdown};
use moka::future::Cache;
use moka::policy::EvictionPolicy;
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;

/// The longest interval between two checks for expired sessions.
const LONGEST_INTERVAL: Duration = Duration::from_secs(5);

/// A value that is stored for a client.
pub trait Session: Send + Sync + 'static {
    /// Releases everything that the session holds, at once or as soon as possible. The store calls
    /// this when the session ends.
    fn end(&self);

    /// Returns whether the session is in use even without requests. Such a session does not expire.
    fn is_in_use(&self) -> bool {
        false
    }
}

/// The owner of the sessions of one route. Its shutdown ends all of them.
#[derive(Debug, GracefulShutdown)]
#[shutdown(part, strict, timeout = "500ms")]
pub struct Sessions<S: Session> {
    /// The task that removes expired sessions. The cache itself removes them only when it is used.
    #[shutdown(priority = 0, timeout = "100ms")]
    expiry: AbortOnDropHandle<()>,
    /// The store. Its cleanup ends the remaining sessions.
    #[shutdown(priority = 10, timeout = "300ms")]
    store: Store<S>,
}

impl<S: Session> Sessions<S> {
    /// Creates an empty store, and the owner of its sessions.
    ///
    /// A session ends when it was unused for `idle`. When there are more than `most` sessions, the
    /// least recently used session ends. The sessions of this store are also counted in `total`.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[must_use]
    pub fn new(idle: Duration, most: u64, total: &SessionCount) -> (Self, Store<S>) {
        let store = Store {
            cache: Cache::builder()
                .time_to_idle(idle)
                .max_capacity(most)
                .eviction_policy(EvictionPolicy::lru())
                .eviction_listener(|_, session: Arc<S>, _| session.end())
                .build(),
            count: SessionCount::part_of(total),
            closed: Arc::default(),
        };
        let expiring = store.clone();
        let expiry = tokio::spawn(async move {
            let mut ticks = interval((idle / 4).min(LONGEST_INTERVAL));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                expiring.expire().await;
            }
        });
        let owner = Self {
            expiry: AbortOnDropHandle::new(expiry),
            store: store.clone(),
        };
        (owner, store)
    }
}

impl<S: Session> Drop for Sessions<S> {
    /// Aborts the task that removes expired sessions, since nothing awaits the task any more.
    fn drop(&mut self) {
        self.expiry.abort();
    }
}

/// A store of sessions by name. Clones are cheap and share state. Dropping a clone ends no session.
pub struct Store<S: Session> {
    cache: Cache<String, Arc<S>>,
    count: SessionCount,
    closed: Arc<AtomicBool>,
}

impl<S: Session> Clone for Store<S> {
    fn clone(&self) -> Self {
        Self {
            cache: self.cache.clone(),
            count: self.count.clone(),
            closed: self.closed.clone(),
        }
    }
}

impl<S: Session> Store<S> {
    /// Counts a session, until the returned guard is dropped.
    #[must_use]
    pub fn count_session(&self) -> SessionGuard {
        self.count.add()
    }

    /// Stores a session under a random name, and returns the name. Returns `None` once the shutdown
    /// has begun.
    pub async fn create(&self, session: S) -> Option<String> {
        let name = name()?;
        self.insert(name.clone(), session).await.then_some(name)
    }

    /// Stores a session under this name, and ends the session that had the name before. Once the
    /// shutdown has begun, it ends the new session and returns false.
    pub async fn insert(&self, name: String, session: S) -> bool {
        self.cache.insert(name.clone(), Arc::new(session)).await;
        // Checked after the insertion, so that no session is left over: either this function sees
        // `closed`, or `end_all` sees the session.
        if self.closed.load(Ordering::SeqCst) {
            self.remove(&name).await;
            return false;
        }
        true
    }

    /// Finds the session of this name, and restarts its idle time.
    pub async fn find(&self, name: &str) -> Option<Arc<S>> {
        self.cache.get(name).await
    }

    /// Ends the session of this name. Returns whether the session existed.
    pub async fn remove(&self, name: &str) -> bool {
        self.cache.remove(name).await.is_some()
    }

    /// Returns the number of sessions that have not ended.
    #[must_use]
    pub fn used(&self) -> Used {
        self.count.used()
    }

    async fn expire(&self) {
        let in_use = self.cache.iter().filter(|(_, session)| session.is_in_use());
        let in_use: Vec<_> = in_use.map(|(name, _)| name).collect();
        for name in in_use {
            // A look-up restarts the idle time of the session that is in use.
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

impl<S: Session> Component for Store<S> {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        let count = self.count.clone();
        cx.waiting_for(move || format!("{} sessions", count.used().active));
        // The cache adds insertions to `entry_count` only in its pending tasks, and `end_all`
        // relies on that count.
        self.cache.run_pending_tasks().await;
        self.end_all().await;
        Ok(())
    }
}

impl<S: Session> fmt::Debug for Store<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("active", &self.used().active)
            .finish_non_exhaustive()
    }
}

/// A count of sessions that have not ended. Clones are cheap and share state.
#[derive(Clone, Debug, Default)]
pub struct SessionCount(Arc<Count>);

#[derive(Debug, Default)]
struct Count {
    active: AtomicU64,
    peak: AtomicU64,
    total: Option<SessionCount>,
}

impl SessionCount {
    /// Creates a count whose sessions are also counted in `total`.
    #[must_use]
    pub fn part_of(total: &Self) -> Self {
        Self(Arc::new(Count {
            total: Some(total.clone()),
            ..Count::default()
        }))
    }

    /// Returns the current number of sessions and its peak.
    #[must_use]
    pub fn used(&self) -> Used {
        Used {
            active: self.0.active.load(Ordering::Relaxed),
            peak: self.0.peak.load(Ordering::Relaxed),
        }
    }

    fn add(&self) -> SessionGuard {
        let active = self.0.active.fetch_add(1, Ordering::Relaxed) + 1;
        self.0.peak.fetch_max(active, Ordering::Relaxed);
        SessionGuard {
            count: self.clone(),
            _total: self.0.total.as_ref().map(|total| Box::new(total.add())),
        }
    }
}

/// A guard that counts one session until it is dropped.
#[derive(Debug)]
pub struct SessionGuard {
    count: SessionCount,
    _total: Option<Box<SessionGuard>>,
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        self.count.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Returns a random name of 128 bits. Returns `None` if the system has no random numbers.
fn name() -> Option<String> {
    let mut bytes = [0; 16];
    let read = getrandom(&mut bytes, GetRandomFlags::empty()).ok()?;
    (read == bytes.len()).then(|| format!("{:032x}", u128::from_be_bytes(bytes)))
}

#[cfg(test)]
mod tests;

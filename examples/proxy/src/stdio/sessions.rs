//! Sessions: a client that begins one has a process of its own, which keeps what
//! it was told, until the client ends the session or is not heard of for too long.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use lifecycle_runtime::{BoxError, Component, Context, GracefulShutdown};
use moka::future::Cache;
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::message::Call;
use super::process::{Broken, Process};

/// How often sessions that have expired are looked for, at least.
const LONGEST_TICK: Duration = Duration::from_secs(5);

/// The owner of the sessions of a program.
#[derive(Debug, GracefulShutdown)]
#[shutdown(part, strict, timeout = "500ms")]
pub struct Sessions {
    /// Ends those that have expired: the cache does so only when it is used.
    #[shutdown(priority = 0, timeout = "100ms")]
    ticks: JoinHandle<()>,
    /// Ends the others.
    #[shutdown(priority = 10, timeout = "300ms")]
    shelf: Shelf,
}

impl Sessions {
    /// None yet. One that is not used for `idle` is ended.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[must_use]
    pub fn new(idle: Duration) -> (Self, Shelf) {
        let shelf = Shelf {
            cache: Cache::builder()
                .time_to_idle(idle)
                .eviction_listener(|_, session: Arc<Session>, _| session.end())
                .build(),
            active: Active::default(),
            closed: Arc::default(),
        };
        let ticking = shelf.clone();
        let ticks = tokio::spawn(async move {
            let mut ticks = interval((idle / 4).min(LONGEST_TICK));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                ticking.cache.run_pending_tasks().await;
            }
        });
        let owner = Self {
            ticks,
            shelf: shelf.clone(),
        };
        (owner, shelf)
    }
}

/// Where sessions are found by their names. A cheap clone: dropping one changes
/// nothing.
#[derive(Clone)]
pub struct Shelf {
    cache: Cache<String, Arc<Session>>,
    active: Active,
    closed: Arc<AtomicBool>,
}

impl Shelf {
    /// Begins a session with `process`, under a name that cannot be guessed. None
    /// once the shutdown has begun.
    pub async fn begin(&self, process: Process) -> Option<String> {
        let name = name()?;
        let session = Arc::new(Session {
            inside: Mutex::new(Some((process, self.active.enter()))),
            ended: AtomicBool::new(false),
        });
        self.cache.insert(name.clone(), session).await;
        // Tested after, so that one of the two sees the other: this the closing,
        // or that the session.
        if self.closed.load(Ordering::SeqCst) {
            self.end(&name).await;
            return None;
        }
        Some(name)
    }

    /// The session of this name, which is used now.
    pub async fn find(&self, name: &str) -> Option<Arc<Session>> {
        self.cache.get(name).await
    }

    /// Ends a session. Whether there was one.
    pub async fn end(&self, name: &str) -> bool {
        self.cache.remove(name).await.is_some()
    }

    /// How many have not ended.
    #[must_use]
    pub fn active(&self) -> usize {
        self.active.0.load(Ordering::Relaxed)
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

impl Component for Shelf {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        let active = self.active.clone();
        cx.waiting_for(move || format!("{} sessions", active.0.load(Ordering::Relaxed)));
        // What was inserted is counted only then.
        self.cache.run_pending_tasks().await;
        self.end_all().await;
        Ok(())
    }
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelf")
            .field("active", &self.active())
            .finish_non_exhaustive()
    }
}

/// A process, and whoever talks to it, one at a time.
#[derive(Debug)]
pub struct Session {
    inside: Mutex<Option<(Process, Entered)>>,
    ended: AtomicBool,
}

impl Session {
    /// Sends a call to the process, and waits for its answer. None if the session
    /// has ended.
    ///
    /// # Errors
    ///
    /// When the process is broken, which ends the session.
    ///
    /// # Cancel safety
    ///
    /// A call that is dropped half-way ends the session: nobody knows what its
    /// process would say next.
    pub async fn call(&self, call: &Call) -> Option<Result<Option<String>, Broken>> {
        // Dropped after the lock, so that it finds it free.
        let mut last = Last {
            session: self,
            is_last: false,
        };
        let mut inside = self.inside.lock().await;
        let (process, _) = inside.as_mut()?;
        last.is_last = true;
        let answer = process.call(call).await;
        last.is_last = answer.is_err();
        Some(answer)
    }

    /// Gives the process up, at once or after the call that it is in.
    pub fn end(&self) {
        // Set before the attempt: a call tests it after it has let go of the lock.
        self.ended.store(true, Ordering::SeqCst);
        if let Ok(mut inside) = self.inside.try_lock() {
            drop(inside.take());
        }
    }
}

/// Ends the session if its call was the last one, or the end came meanwhile.
struct Last<'a> {
    session: &'a Session,
    is_last: bool,
}

impl Drop for Last<'_> {
    fn drop(&mut self) {
        if self.is_last || self.session.ended.load(Ordering::SeqCst) {
            self.session.end();
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Active(Arc<AtomicUsize>);

impl Active {
    fn enter(&self) -> Entered {
        self.0.fetch_add(1, Ordering::Relaxed);
        Entered(self.clone())
    }
}

#[derive(Debug)]
struct Entered(Active);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// 128 bits that nobody can guess.
fn name() -> Option<String> {
    let mut bytes = [0; 16];
    let read = getrandom(&mut bytes, GetRandomFlags::empty()).ok()?;
    (read == bytes.len()).then(|| format!("{:032x}", u128::from_be_bytes(bytes)))
}

//! A session: a process that serves one client alone and keeps its state between calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lifecycle_proxy_sessions::SessionGuard;
use tokio::sync::Mutex;

use super::message::Call;
use super::outbox::Outbox;
use super::process::{Broken, Process};

/// A process that one client uses, one call at a time.
#[derive(Debug)]
pub struct Session {
    inside: Mutex<Option<(Process, SessionGuard)>>,
    ended: AtomicBool,
    outbox: Arc<Outbox>,
}

impl Session {
    /// Creates a session. Lines of `process` that are not answers go to `outbox`.
    #[must_use]
    pub fn new(process: Process, outbox: Arc<Outbox>, guard: SessionGuard) -> Self {
        Self {
            inside: Mutex::new(Some((process, guard))),
            ended: AtomicBool::new(false),
            outbox,
        }
    }

    /// Returns the notifications of the process.
    #[must_use]
    pub const fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    /// Sends a call to the process and waits for its answer. Returns `None` if the session has
    /// ended.
    ///
    /// # Errors
    ///
    /// When the process is broken, which ends the session.
    ///
    /// # Cancel safety
    ///
    /// If the future of a call is dropped before the answer, the session ends, since the next line
    /// of the process could be the late answer.
    pub async fn call(&self, call: &Call) -> Option<Result<Option<String>, Broken>> {
        // Declared before `inside`, so that it is dropped after the lock was released: the guard
        // takes the lock again.
        let mut guard = EndGuard {
            session: self,
            ends_session: false,
        };
        let mut inside = self.inside.lock().await;
        let (process, _) = inside.as_mut()?;
        guard.ends_session = true;
        let answer = process.call(call).await;
        guard.ends_session = answer.is_err();
        Some(answer)
    }
}

impl lifecycle_proxy_sessions::Session for Session {
    /// Drops the process: at once, or after the call that is running.
    fn end(&self) {
        self.outbox.close();
        // Stored before `try_lock`: a running call keeps the lock, and checks the flag after it has
        // released the lock.
        self.ended.store(true, Ordering::SeqCst);
        if let Ok(mut inside) = self.inside.try_lock() {
            drop(inside.take());
        }
    }

    fn is_in_use(&self) -> bool {
        self.outbox.has_listeners()
    }
}

/// A guard that ends the session after a failed call. It also ends the session if `end` was called
/// during the call.
struct EndGuard<'a> {
    session: &'a Session,
    ends_session: bool,
}

impl Drop for EndGuard<'_> {
    fn drop(&mut self) {
        if self.ends_session || self.session.ended.load(Ordering::SeqCst) {
            lifecycle_proxy_sessions::Session::end(self.session);
        }
    }
}

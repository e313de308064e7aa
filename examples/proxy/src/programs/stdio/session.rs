//! A client that has a process for itself, which keeps what it was told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Mutex;

use super::message::Call;
use super::outbox::Outbox;
use super::process::{Broken, Process};
use crate::programs::sessions::{self, Entered};

/// A process, and whoever talks to it, one at a time.
#[derive(Debug)]
pub struct Session {
    inside: Mutex<Option<(Process, Entered)>>,
    ended: AtomicBool,
    outbox: Arc<Outbox>,
}

impl Session {
    /// Has `process`, whose other words go to `outbox`.
    #[must_use]
    pub fn new(process: Process, outbox: Arc<Outbox>, entered: Entered) -> Self {
        Self {
            inside: Mutex::new(Some((process, entered))),
            ended: AtomicBool::new(false),
            outbox,
        }
    }

    /// What the process says unasked.
    #[must_use]
    pub const fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

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
}

impl sessions::Session for Session {
    /// Gives the process up, at once or after the call that it is in.
    fn end(&self) {
        self.outbox.close();
        // Set before the attempt: a call tests it after it has let go of the lock.
        self.ended.store(true, Ordering::SeqCst);
        if let Ok(mut inside) = self.inside.try_lock() {
            drop(inside.take());
        }
    }

    fn is_held(&self) -> bool {
        self.outbox.is_heard()
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
            sessions::Session::end(self.session);
        }
    }
}

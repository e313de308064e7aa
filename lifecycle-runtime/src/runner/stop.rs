//! What tells main to stop, and knows whether main ever looked.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::CancellationToken;

/// Fires when main should stop. It is a [`CancellationToken`] by deref: `stop.cancelled().await`,
/// `stop.is_cancelled()`, `stop.clone()`.
///
/// Look at it early: a main that never did is dropped at once when the shutdown begins, since it
/// cannot be waiting for it. What it was doing is lost then, so its step is not done: the exit code is 1.
#[derive(Debug)]
#[doc(alias("cancel", "cancellation"))]
pub struct Stop {
    token: CancellationToken,
    looked: Arc<AtomicBool>,
}

impl Stop {
    /// The token itself, to hand to others. Cancelling it ends nothing but those.
    pub fn token(&self) -> CancellationToken {
        CancellationToken::clone(self)
    }

    /// Waits for it without borrowing it: what `axum::serve(…).with_graceful_shutdown` takes.
    pub fn cancelled_owned(self) -> impl Future<Output = ()> + Send + 'static {
        self.token().cancelled_owned()
    }
}

impl Deref for Stop {
    type Target = CancellationToken;

    fn deref(&self) -> &CancellationToken {
        // Relaxed: main and the runner are one task.
        self.looked.store(true, Ordering::Relaxed);
        &self.token
    }
}

/// The runner's side.
pub(super) struct Firing {
    token: CancellationToken,
    looked: Arc<AtomicBool>,
}

impl Firing {
    pub(super) fn fire(&self) {
        self.token.cancel();
    }

    /// Whether main can know.
    pub(super) fn was_looked_at(&self) -> bool {
        self.looked.load(Ordering::Relaxed)
    }
}

pub(super) fn pair() -> (Stop, Firing) {
    let token = CancellationToken::new();
    let looked = Arc::new(AtomicBool::new(false));
    let stop = Stop {
        // A child, so that what main does to it stays main's.
        token: token.child_token(),
        looked: Arc::clone(&looked),
    };
    (stop, Firing { token, looked })
}

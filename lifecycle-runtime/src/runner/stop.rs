//! The signal that tells main to stop, and the record of whether main ever used this signal.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::CancellationToken;

/// The signal that tells main when to stop: `stop.cancelled().await`, `stop.is_cancelled()`.
///
/// Use the signal early in main. A main that never used it cannot be waiting for it, so the runner drops such a main at
/// once when the shutdown begins. What that main was doing is lost, its step is not done, and the exit code is 1. A
/// call of any method counts as a use, and so does a clone.
#[derive(Debug)]
#[doc(alias("cancel", "cancellation"))]
pub struct Stop {
    token: CancellationToken,
    looked: Arc<AtomicBool>,
}

impl Stop {
    /// Returns the cancellation token behind this signal, to pass to tasks and other crates. Cancelling the token does
    /// not begin a shutdown.
    pub fn token(&self) -> CancellationToken {
        self.look().clone()
    }

    /// Waits until main should stop.
    ///
    /// # Cancel safety
    ///
    /// Safe: dropping the future loses nothing.
    pub fn cancelled(&self) -> impl Future<Output = ()> + Send {
        self.look().cancelled()
    }

    /// Waits until main should stop. The future borrows nothing:
    /// `axum::serve(…).with_graceful_shutdown(stop.cancelled_owned())`.
    ///
    /// # Cancel safety
    ///
    /// Safe: dropping the future loses nothing.
    pub fn cancelled_owned(self) -> impl Future<Output = ()> + Send + 'static {
        self.token().cancelled_owned()
    }

    /// Returns whether the shutdown has reached the point at which main should stop.
    pub fn is_cancelled(&self) -> bool {
        self.look().is_cancelled()
    }

    /// Runs `future` to its end. If main should stop before that, drops the future and returns `None`.
    ///
    /// # Cancel safety
    ///
    /// The cancel safety is that of `future`.
    pub fn run_until_cancelled<F: Future>(
        &self,
        future: F,
    ) -> impl Future<Output = Option<F::Output>> {
        self.look().run_until_cancelled(future)
    }

    fn look(&self) -> &CancellationToken {
        // Relaxed is enough: main and the runner are one task.
        self.looked.store(true, Ordering::Relaxed);
        &self.token
    }
}

/// Cloning counts as a use of the signal: main may wait for a task that has the clone.
impl Clone for Stop {
    fn clone(&self) -> Self {
        Self {
            token: self.token(),
            looked: Arc::clone(&self.looked),
        }
    }
}

/// The runner's counterpart of a [`Stop`], which fires it.
pub(super) struct StopTrigger {
    token: CancellationToken,
    looked: Arc<AtomicBool>,
}

impl StopTrigger {
    pub(super) fn fire(&self) {
        self.token.cancel();
    }

    /// Returns whether main can know that it should stop.
    pub(super) fn was_looked_at(&self) -> bool {
        self.looked.load(Ordering::Relaxed)
    }
}

pub(super) fn pair() -> (Stop, StopTrigger) {
    let token = CancellationToken::new();
    let looked = Arc::new(AtomicBool::new(false));
    let stop = Stop {
        // The `Stop` gets a child token, so that a main that cancels its token does not cancel the runner's.
        token: token.child_token(),
        looked: Arc::clone(&looked),
    };
    (stop, StopTrigger { token, looked })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(look: impl FnOnce(&Stop)) -> bool {
        let (stop, trigger) = pair();
        assert!(!trigger.was_looked_at());
        look(&stop);
        trigger.was_looked_at()
    }

    #[test]
    fn every_method_counts_as_a_look_when_it_is_called_and_debug_output_does_not() {
        assert!(looks(|stop| assert!(!stop.is_cancelled())));
        assert!(looks(|stop| drop(stop.cancelled())));
        assert!(looks(|stop| drop(stop.run_until_cancelled(async {}))));
        assert!(looks(|stop| drop(stop.token())));
        assert!(looks(|stop| drop(stop.clone())));
        assert!(!looks(|stop| assert!(!format!("{stop:?}").is_empty())));
    }

    #[test]
    fn a_clone_is_cancelled_too_and_cancelling_mains_token_does_not_cancel_the_runners() {
        let (stop, trigger) = pair();
        let clone = stop.clone();
        trigger.fire();
        assert!(stop.is_cancelled() && clone.is_cancelled());

        let (stop, trigger) = pair();
        stop.token().cancel();
        assert!(stop.is_cancelled() && !trigger.token.is_cancelled());
    }
}

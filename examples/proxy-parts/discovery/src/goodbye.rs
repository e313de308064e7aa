//! A goodbye, which a server sends to announce its end. It is sent at most once, however many
//! callers send it.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use lifecycle_runtime::BoxError;
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

type SendFuture = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;
type SendFn = Box<dyn Fn(Instant) -> SendFuture + Send + Sync>;

/// A goodbye of a server. Clones are cheap and share state.
#[derive(Clone, Default)]
pub struct Goodbye(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// The time limit, and the function that sends the goodbye. The cell is empty until somebody
    /// has to get a goodbye.
    send: OnceLock<(Duration, SendFn)>,
    outcome: OnceCell<Result<(), String>>,
    /// The token that is cancelled when the goodbye must not be sent any more.
    cancelled: CancellationToken,
}

impl Goodbye {
    /// Sets the function that sends the goodbye. The function's argument is the time by which it
    /// should be done. A tenth of `limit` is left between that time and the moment when the
    /// function is dropped.
    pub(super) fn prepare<F>(
        &self,
        limit: Duration,
        send: impl Fn(Instant) -> F + Send + Sync + 'static,
    ) where
        F: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let send: SendFn = Box::new(move |until| Box::pin(send(until)));
        // Ignores the error, which never occurs: a server starts only once with its goodbyes, so
        // the cell is empty.
        let _ = self.0.send.set((limit, send));
    }

    /// Cancels the goodbye, because another process goes on under the same announcement.
    pub(super) fn cancel(&self) {
        self.0.cancelled.cancel();
    }

    /// Returns the token that is cancelled when the goodbye must not be sent any more.
    pub(super) fn cancelled(&self) -> CancellationToken {
        self.0.cancelled.clone()
    }

    /// Sends the goodbye, or waits until another caller has sent it.
    ///
    /// # Errors
    ///
    /// When a receiver did not confirm the goodbye within the time limit, or sending it failed.
    /// Each call returns the same error.
    ///
    /// # Cancel safety
    ///
    /// Safe: if a call's future is dropped, the next call sends the goodbye anew.
    pub async fn send(&self) -> Result<(), BoxError> {
        let Some((limit, send)) = self.0.send.get() else {
            return Ok(());
        };
        if self.0.cancelled.is_cancelled() {
            return Ok(());
        }
        let outcome = self.0.outcome.get_or_init(|| async {
            let now = Instant::now();
            let until = now + *limit * 9 / 10;
            match timeout_at(now + *limit, send(until)).await {
                Ok(outcome) => outcome.map_err(|error| error.to_string()),
                Err(_) => Err(format!("not sent within {limit:?}")),
            }
        });
        outcome.await.clone().map_err(Into::into)
    }
}

impl fmt::Debug for Goodbye {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Goodbye")
            .field("outcome", &self.0.outcome.get())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::time::sleep;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(3);

    #[tokio::test(start_paused = true)]
    async fn it_is_sent_once_however_many_callers_ask() {
        let (goodbye, sent) = (Goodbye::default(), Arc::new(AtomicU32::new(0)));
        goodbye.send().await.unwrap();
        let count = sent.clone();
        goodbye.prepare(LIMIT, move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            async {
                sleep(LIMIT / 2).await;
                Err("no acknowledgement".into())
            }
        });
        let (first, second) = tokio::join!(goodbye.send(), goodbye.send());
        for outcome in [first, second, goodbye.send().await] {
            assert_eq!(outcome.unwrap_err().to_string(), "no acknowledgement");
        }
        assert_eq!(sent.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_cut_at_its_limit() {
        let goodbye = Goodbye::default();
        goodbye.prepare(LIMIT, |_| pending());
        let began = Instant::now();
        let error = goodbye.send().await.unwrap_err();
        assert_eq!(error.to_string(), "not sent within 3s");
        assert_eq!(began.elapsed(), LIMIT);
    }
}

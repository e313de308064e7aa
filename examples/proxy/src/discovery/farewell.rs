//! A goodbye that is said once, whoever asks for it.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use lifecycle_runtime::BoxError;
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

type Said = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;
type Speech = Box<dyn Fn(Instant) -> Said + Send + Sync>;

/// A goodbye. A cheap clone is the same one.
#[derive(Clone, Default)]
pub struct Farewell(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// What is said, and how long that may take. Nothing, until there is somebody to
    /// say goodbye to.
    speech: OnceLock<(Duration, Speech)>,
    said: OnceCell<Result<(), String>>,
    /// Cancelled: nothing is said.
    withheld: CancellationToken,
}

impl Farewell {
    /// Says what is to be said. It is given the time until when it should be done, a
    /// tenth of `limit` before it is cut.
    pub(super) fn prepare<F>(
        &self,
        limit: Duration,
        speech: impl Fn(Instant) -> F + Send + Sync + 'static,
    ) where
        F: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let speech: Speech = Box::new(move |until| Box::pin(speech(until)));
        // A server is started once with its farewells.
        let _ = self.0.speech.set((limit, speech));
    }

    /// Says nothing from now on: another process has gone on with what was announced.
    pub(super) fn withhold(&self) {
        self.0.withheld.cancel();
    }

    /// Cancelled once nothing is said.
    pub(super) fn withheld(&self) -> CancellationToken {
        self.0.withheld.clone()
    }

    /// Says goodbye, or waits until it was said.
    ///
    /// # Errors
    ///
    /// When somebody did not hear it, or not in time; the same each time it is asked
    /// for.
    ///
    /// # Cancel safety
    ///
    /// Dropped half-way, it is said anew by the next call.
    pub async fn say(&self) -> Result<(), BoxError> {
        let Some((limit, speech)) = self.0.speech.get() else {
            return Ok(());
        };
        if self.0.withheld.is_cancelled() {
            return Ok(());
        }
        let said = self.0.said.get_or_init(|| async {
            let now = Instant::now();
            let until = now + *limit * 9 / 10;
            match timeout_at(now + *limit, speech(until)).await {
                Ok(said) => said.map_err(|error| error.to_string()),
                Err(_) => Err(format!("not said within {limit:?}")),
            }
        });
        said.await.clone().map_err(Into::into)
    }
}

impl fmt::Debug for Farewell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Farewell")
            .field("said", &self.0.said.get())
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
    async fn it_is_said_once_however_many_ask() {
        let (farewell, said) = (Farewell::default(), Arc::new(AtomicU32::new(0)));
        farewell.say().await.unwrap();
        let count = said.clone();
        farewell.prepare(LIMIT, move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            async {
                sleep(LIMIT / 2).await;
                Err("nobody heard".into())
            }
        });
        let (first, second) = tokio::join!(farewell.say(), farewell.say());
        for said in [first, second, farewell.say().await] {
            assert_eq!(said.unwrap_err().to_string(), "nobody heard");
        }
        assert_eq!(said.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_cut_at_its_limit() {
        let farewell = Farewell::default();
        farewell.prepare(LIMIT, |_| pending());
        let began = Instant::now();
        let error = farewell.say().await.unwrap_err();
        assert_eq!(error.to_string(), "not said within 3s");
        assert_eq!(began.elapsed(), LIMIT);
    }
}

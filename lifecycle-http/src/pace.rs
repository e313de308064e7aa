//! Limits on how long the server waits for a client to send or to take bytes.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::Limits;

/// A measure of the waits for a client in one direction. A single wait may last `stall`. All waits together may last
/// `stall`, and in addition the time that the moved bytes take at the slowest rate.
#[derive(Debug)]
pub(crate) struct Pace {
    stall: Duration,
    slowest: u32,
    /// The time that all waits together may still take.
    credit: Duration,
    /// The bound of the credit, so that many bytes at once do not allow for a day of silence afterwards.
    most: Duration,
    waiting: Option<Instant>,
    /// The timer of the current wait. The first wait creates it.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            stall: limits.stall,
            slowest: limits.min_bytes_per_second,
            credit: limits.stall,
            most: limits.stall.saturating_mul(4),
            waiting: None,
            timer: None,
        }
    }

    /// Records that `bytes` bytes moved. They end the current wait and add to the credit.
    pub(crate) fn moved(&mut self, bytes: usize) {
        if let Some(since) = self.waiting.take() {
            self.credit = self.credit.saturating_sub(since.elapsed());
        }
        if self.credit < self.most {
            self.credit = match self.slowest {
                0 => self.most,
                slowest => {
                    let earned = Duration::from_secs_f64(bytes as f64 / f64::from(slowest));
                    (self.credit + earned).min(self.most)
                }
            };
        }
    }

    /// Begins a wait, or goes on with it. Is ready once no byte has moved for too long.
    pub(crate) fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer = match (&self.waiting, &mut self.timer) {
            (Some(_), Some(timer)) => timer,
            (_, timer) => {
                let now = Instant::now();
                self.waiting = Some(now);
                let deadline = now + self.stall.min(self.credit);
                let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
                timer.as_mut().reset(deadline);
                timer
            }
        };
        timer.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    fn pace() -> Pace {
        Pace::new(&Limits {
            stall: Duration::from_secs(30),
            min_bytes_per_second: 10,
            ..Limits::default()
        })
    }

    async fn waits(pace: &mut Pace) -> u64 {
        let start = Instant::now();
        poll_fn(|cx| pace.poll_overdue(cx)).await;
        start.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn silence_lasts_no_longer_than_a_stall() {
        assert_eq!(waits(&mut pace()).await, 30);
    }

    #[tokio::test(start_paused = true)]
    async fn a_trickle_uses_up_its_credit() {
        let mut pace = pace();
        let start = Instant::now();
        // A byte moves every 10 s, and each adds only a tenth of a second to the credit.
        while tokio::time::timeout(Duration::from_secs(10), waits(&mut pace))
            .await
            .is_err()
        {
            pace.moved(1);
        }
        assert_eq!(start.elapsed().as_secs(), 30);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_slowest_rate_a_trickle_goes_on() {
        let mut pace = Pace::new(&Limits {
            min_bytes_per_second: 0,
            ..Limits::default()
        });
        for _ in 0..1_000 {
            let waited = tokio::time::timeout(Duration::from_secs(29), waits(&mut pace));
            assert!(waited.await.is_err());
            pace.moved(1);
        }
        assert_eq!(waits(&mut pace).await, 30);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_keeps_the_pace_goes_on() {
        let mut pace = pace();
        for _ in 0..100 {
            assert!(
                tokio::time::timeout(Duration::from_secs(10), waits(&mut pace))
                    .await
                    .is_err()
            );
            pace.moved(100);
        }
        assert_eq!(waits(&mut pace).await, 30);
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_nobody_waits_is_not_counted() {
        let mut pace = pace();
        pace.moved(1);
        tokio::time::advance(Duration::from_secs(1000)).await;
        assert_eq!(waits(&mut pace).await, 30);
    }
}

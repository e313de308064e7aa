//! Main: polled until it ends or is told to stop, then awaited as the step `main`.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use super::stop::Firing;
use crate::engine::{Ended, Live, Pulse, contain};
use crate::report::Outcome;
use crate::{Reason, TaskOutcome, clock, log};

/// Main's future, and how it ended.
pub(super) struct MainTask<'a, F> {
    future: Pin<&'a mut Option<F>>,
    outcome: Option<Outcome>,
}

impl<'a, F, T> MainTask<'a, F>
where
    F: Future<Output = T>,
    T: TaskOutcome,
{
    pub(super) fn new(future: Pin<&'a mut Option<F>>) -> Self {
        Self {
            future,
            outcome: None,
        }
    }

    /// Whether it ended by itself.
    pub(super) fn has_ended(&self) -> bool {
        self.outcome.is_some()
    }

    /// Why the shutdown begins, if main's end begins it.
    pub(super) fn reason(&self) -> Reason {
        match &self.outcome {
            Some(Outcome::Failed(error)) => Reason::MainFailed(Arc::clone(error)),
            Some(Outcome::Panicked(message)) => Reason::MainPanicked(message.as_str().into()),
            _ => Reason::MainEnded,
        }
    }

    /// Tells main, and awaits it as the step `main` until its latest finish; one that has not looked at
    /// its `Stop` after another poll cannot know, and is dropped.
    pub(super) async fn finish(mut self, live: &Live, latest: Instant, firing: &Firing) {
        firing.fire();
        live.begin_main(clock::now(), latest);
        if self.outcome.is_none() {
            let mut pulse = Pulse::new(live, true);
            poll_fn(|cx| {
                loop {
                    pulse.register(live, cx);
                    if self.poll(cx).is_ready() {
                        return Poll::Ready(());
                    }
                    let over = clock::now() >= latest || live.origin.forced().is_some();
                    if over || !firing.was_looked_at() {
                        return Poll::Ready(());
                    }
                    if pulse.poll(live, Some(latest), cx).is_pending() {
                        return Poll::Pending;
                    }
                }
            })
            .await;
        }
        let mut outcome = self.outcome.take().unwrap_or_else(|| Outcome::TimedOut {
            waiting_for: (!firing.was_looked_at())
                .then(|| "what is not `stop`: it never looked".into()),
        });
        if let Err(message) = contain(|| self.future.set(None)) {
            if outcome.is_done() {
                outcome = Outcome::Panicked(message);
            }
        }
        let now = clock::now();
        if let Some((elapsed, budget)) = live.end_main(outcome.clone(), now) {
            log::step_end(&Ended {
                at: None,
                element: false,
                best_effort: false,
                outcome,
                elapsed,
                budget,
            });
        }
    }

    /// Ready once main has ended: its outcome is kept.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.has_ended() {
            return Poll::Ready(());
        }
        let Some(main) = self.future.as_mut().as_pin_mut() else {
            return Poll::Ready(());
        };
        let outcome = match contain(|| main.poll(cx).map(TaskOutcome::into_outcome)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(Ok(()))) => Outcome::Done,
            Ok(Poll::Ready(Err(error))) => Outcome::Failed(Arc::from(error)),
            Err(message) => Outcome::Panicked(message),
        };
        self.outcome = Some(outcome);
        Poll::Ready(())
    }
}

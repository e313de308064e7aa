//! The spans `shutdown` and `step`. They show from which step a line logged inside a cleanup comes.
//!
//! The parent of a new span is the span that is entered at that moment: the span of the step around the new one, or the
//! caller's span. The subscriber is foreign code, so each call to it is contained (invariant 5: no panic of foreign
//! code leaves the engine). Without a subscriber no span is created.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::time::Duration;

use tracing::field::Empty;
use tracing::level_filters::LevelFilter;
use tracing::{Level, Span, info_span};

use super::contain;
use crate::Reason;
use crate::report::Outcome;
use crate::text::millis;

/// A span that is entered for each poll of a step or a shutdown.
#[derive(Debug)]
pub(crate) struct PollSpan(
    /// The span is boxed to keep steps small: each step has this field, and few steps have a span.
    Option<Box<Span>>,
);

impl PollSpan {
    /// Creates the span of a shutdown.
    pub(crate) fn shutdown(component: &str, reason: &Reason, budget: Duration) -> Self {
        Self::new(|| {
            info_span!(
                target: "lifecycle",
                "shutdown",
                component,
                %reason,
                budget_ms = millis(budget),
            )
        })
    }

    /// Creates the span of a step. Computes its path and budget only if a subscriber listens.
    pub(crate) fn step(
        component: &str,
        path: impl FnOnce() -> String,
        budget: impl FnOnce() -> Duration,
    ) -> Self {
        Self::new(|| {
            info_span!(
                target: "lifecycle",
                "step",
                component,
                step = path(),
                budget_ms = millis(budget()),
                outcome = Empty,
            )
        })
    }

    fn new(span: impl FnOnce() -> Span) -> Self {
        if Level::INFO > LevelFilter::current() {
            return Self(None);
        }
        let span = contain(span).ok();
        Self(span.filter(|span| !span.is_disabled()).map(Box::new))
    }

    /// Calls `f` inside the span.
    #[inline]
    pub(crate) fn enter<T>(&self, f: impl FnOnce() -> T) -> T {
        let Some(span) = &self.0 else {
            return f();
        };
        let _entered = Entered(contain(|| span.enter()).ok());
        f()
    }

    /// Runs `future` inside the span.
    pub(crate) async fn around<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|cx| self.enter(|| future.as_mut().poll(cx))).await
    }

    /// Records the outcome of the step.
    pub(crate) fn ends(&self, outcome: &Outcome) {
        if let Some(span) = &self.0 {
            let _ = contain(|| {
                span.record("outcome", outcome.word());
            });
        }
    }
}

impl Drop for PollSpan {
    fn drop(&mut self) {
        let span = self.0.take();
        if span.is_some() {
            let _ = contain(|| drop(span));
        }
    }
}

/// A guard that leaves the span when it is dropped.
struct Entered<'a>(Option<tracing::span::Entered<'a>>);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let entered = self.0.take();
        let _ = contain(|| drop(entered));
    }
}

//! The timer of a waiting plan, created when the plan first has to wait.
//!
//! Tokio's own timer panics on a runtime without a time driver and on a runtime that is shutting down. No function
//! tells beforehand whether it would panic, and a panic hook would see the panic. So a thread of this library keeps
//! real time. The thread needs no runtime, and serves a plan that moves from one runtime to the next. Tokio's timer is
//! used only for paused time, as in tests.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::time::{Sleep, sleep_until};

use super::alarm::Alarm;
use super::contain;
use crate::clock;

/// A timer that is ready once an instant has passed.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    /// The timer that wakes on tokio's paused clock.
    paused: Option<Pin<Box<Sleep>>>,
    /// The timer that wakes in real time.
    alarm: Option<Alarm>,
}

impl Timer {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Returns `Ready` once `at` has passed, and never if `at` is `None`.
    pub(crate) fn poll(&mut self, at: Option<Instant>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = at else {
            return Poll::Pending;
        };
        if clock::now() >= at {
            return Poll::Ready(());
        }
        if clock::is_paused() {
            self.alarm = None;
            if let Some(polled) = self.poll_paused(at, cx) {
                return polled;
            }
        }
        self.paused = None;
        match &self.alarm {
            Some(alarm) => alarm.set(at, cx.waker()),
            None => self.alarm = Some(Alarm::new(at, cx.waker())),
        }
        Poll::Pending
    }

    /// Polls a sleep on the paused clock. Returns `None` if this runtime cannot keep paused time. The sleep panics if
    /// its runtime has shut down, so the sleep is then replaced once.
    fn poll_paused(&mut self, at: Instant, cx: &mut Context<'_>) -> Option<Poll<()>> {
        for _ in 0..2 {
            let polled = contain(|| {
                let sleep = self
                    .paused
                    .get_or_insert_with(|| Box::pin(sleep_until(at.into())));
                if sleep.deadline() != at.into() {
                    sleep.as_mut().reset(at.into());
                }
                sleep.as_mut().poll(cx)
            });
            match polled {
                Ok(polled) => return Some(polled),
                Err(_) => self.paused = None,
            }
        }
        None
    }
}

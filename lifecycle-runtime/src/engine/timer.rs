//! A timer for a plan that waits, made when the plan first has to wait.
//!
//! Tokio's own timer panics on a runtime without a time driver and on one that is shutting down, and there is no asking
//! before: the panic hook would see the answer. So real time is kept by a thread of the library's, which needs no
//! runtime and follows a plan from one runtime to the next. Only paused time, which tests have, is tokio's.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::time::{Sleep, sleep_until};

use super::alarm::Alarm;
use super::contain;
use crate::clock;

/// Ready once a moment has passed.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    /// Wakes at a time on a paused clock.
    paused: Option<Pin<Box<Sleep>>>,
    /// Wakes at a real time.
    alarm: Option<Alarm>,
}

impl Timer {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Ready once `at` has passed.
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

    /// `None` if this runtime cannot keep paused time. One that is gone panics, so a new timer is tried then.
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

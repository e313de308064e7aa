//! One timer for a whole plan, made when it first has to wait.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread::{self, Thread};
use std::time::Instant;

use tokio::runtime::Handle;
use tokio::time::{Sleep, sleep_until};

use super::contain;
use crate::clock;

/// Lazy, because tokio's `Sleep` panics when it is made without a time driver, and a plan whose steps
/// are ready needs none.
#[derive(Debug)]
pub(crate) struct Timer {
    kind: Option<Kind>,
}

#[derive(Debug)]
enum Kind {
    Tokio(Pin<Box<Sleep>>),
    /// Outside tokio, and on a runtime without time, a thread wakes the plan.
    Thread(Alarm),
}

impl Timer {
    pub(crate) fn new() -> Self {
        Self { kind: None }
    }

    /// Ready once `at` has passed.
    pub(crate) fn poll(&mut self, at: Option<Instant>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = at else {
            return Poll::Pending;
        };
        if clock::now() >= at {
            return Poll::Ready(());
        }
        match self.kind.get_or_insert_with(|| Kind::new(at, cx.waker())) {
            Kind::Tokio(sleep) => {
                if sleep.deadline() != at.into() {
                    sleep.as_mut().reset(at.into());
                }
                sleep.as_mut().poll(cx)
            }
            Kind::Thread(alarm) => {
                if alarm.at != at || !alarm.waker.will_wake(cx.waker()) {
                    *alarm = Alarm::set(at, cx.waker());
                }
                Poll::Pending
            }
        }
    }
}

impl Kind {
    fn new(at: Instant, waker: &Waker) -> Self {
        let sleep = || Box::pin(sleep_until(at.into()));
        if Handle::try_current().is_ok() {
            // A runtime does not say whether it has time; making a timer does, with a panic.
            if let Ok(sleep) = contain(sleep) {
                return Self::Tokio(sleep);
            }
        }
        Self::Thread(Alarm::set(at, waker))
    }
}

#[derive(Debug)]
struct Alarm {
    at: Instant,
    waker: Waker,
    off: Arc<AtomicBool>,
    thread: Option<Thread>,
}

impl Alarm {
    fn set(at: Instant, waker: &Waker) -> Self {
        let off = Arc::new(AtomicBool::new(false));
        let (is_off, wake) = (Arc::clone(&off), waker.clone());
        let spawned = thread::Builder::new()
            .name("lifecycle-timer".into())
            .spawn(move || {
                while !is_off.load(Ordering::Relaxed) {
                    match at.checked_duration_since(Instant::now()) {
                        Some(left) if !left.is_zero() => thread::park_timeout(left),
                        _ => return wake.wake(),
                    }
                }
            });
        if let Err(error) = &spawned {
            crate::log::no_timer(error);
        }
        Self {
            at,
            waker: waker.clone(),
            off,
            thread: spawned.ok().map(|handle| handle.thread().clone()),
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        // Relaxed: unparking orders it.
        self.off.store(true, Ordering::Relaxed);
        if let Some(thread) = &self.thread {
            thread.unpark();
        }
    }
}

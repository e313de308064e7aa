//! A component with a behaviour that the test chooses. It records its cleanup, abort and release.

use std::future::{pending, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use lifecycle_runtime::{BoxError, Component, Context};
use tokio::sync::Semaphore;
use tokio::time::{Instant, advance, sleep, sleep_until};

use crate::Trace;

/// A component that records `x begins`, `x ends` or `x is cut`, `x aborts` and `x releases` in a [`Trace`].
#[derive(Debug)]
pub struct Probe {
    name: &'static str,
    trace: Trace,
    act: Act,
    says: Option<&'static str>,
    abort_panics: bool,
    release_panics: bool,
    cut_panics: bool,
    looks: bool,
}

#[derive(Debug)]
enum Act {
    End,
    Held(Hold),
    Error(&'static str),
    Panic(&'static str),
    Hang,
    Sleep(Duration),
    Block(Duration),
    UntilSoft,
}

/// A handle with which a test lets a held step end. Clones of a `Hold` release the same step.
#[derive(Clone, Debug)]
pub struct Hold(Arc<Semaphore>);

impl Hold {
    pub fn release(&self) {
        self.0.add_permits(1);
    }
}

impl Probe {
    /// Creates a probe whose cleanup ends at once.
    pub fn new(trace: &Trace, name: &'static str) -> Self {
        Self {
            name,
            trace: trace.clone(),
            act: Act::End,
            says: None,
            abort_panics: false,
            release_panics: false,
            cut_panics: false,
            looks: false,
        }
    }

    /// Creates a probe whose cleanup ends when the test releases the returned [`Hold`].
    pub fn held(trace: &Trace, name: &'static str) -> (Self, Hold) {
        let hold = Hold(Arc::new(Semaphore::new(0)));
        let probe = Self::new(trace, name).act(Act::Held(hold.clone()));
        (probe, hold)
    }

    fn act(mut self, act: Act) -> Self {
        self.act = act;
        self
    }

    /// Makes the cleanup fail.
    pub fn error(self, message: &'static str) -> Self {
        self.act(Act::Error(message))
    }

    /// Makes the cleanup panic.
    pub fn panic(self, message: &'static str) -> Self {
        self.act(Act::Panic(message))
    }

    /// Makes the cleanup hang for ever.
    pub fn hang(self) -> Self {
        self.act(Act::Hang)
    }

    /// Makes the cleanup take the time `time` on tokio's clock.
    pub fn sleep(self, time: Duration) -> Self {
        self.act(Act::Sleep(time))
    }

    /// Makes the cleanup block the executor for the time `time` on tokio's paused clock.
    pub fn block(self, time: Duration) -> Self {
        self.act(Act::Block(time))
    }

    /// Makes the cleanup wait for the soft deadline, and then end its stragglers within half a second.
    pub fn until_soft(self) -> Self {
        self.act(Act::UntilSoft)
    }

    /// Makes the cleanup tell its context what it waits for.
    pub fn says(mut self, what: &'static str) -> Self {
        self.says = Some(what);
        self
    }

    /// Makes `abort` panic.
    pub fn abort_panics(mut self) -> Self {
        self.abort_panics = true;
        self
    }

    /// Makes `release` panic.
    pub fn release_panics(mut self) -> Self {
        self.release_panics = true;
        self
    }

    /// Makes the drop of the cleanup's future panic if the cleanup has not ended.
    pub fn cut_panics(mut self) -> Self {
        self.cut_panics = true;
        self
    }

    /// Makes the cleanup record how much time it has until its soft and its hard deadline.
    pub fn looks(mut self) -> Self {
        self.looks = true;
        self
    }
}

impl Component for Probe {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        self.trace.add(format!("{} begins", self.name));
        if let Some(what) = self.says {
            cx.waiting_for(move || what.into());
        }
        if self.looks {
            let now = Instant::now().into_std();
            let left = |until: std::time::Instant| until.saturating_duration_since(now).as_millis();
            let (soft, hard) = (left(cx.deadline()), left(cx.hard_deadline()));
            self.trace
                .add(format!("{}: {soft} of {hard} ms", self.name));
        }
        let mut open = Open {
            name: self.name,
            trace: &self.trace,
            panics: self.cut_panics,
            ended: false,
        };
        match &self.act {
            Act::End => {}
            Act::Held(hold) => hold.0.acquire().await?.forget(),
            Act::Error(message) => {
                open.ended = true;
                return Err((*message).into());
            }
            Act::Panic(message) => {
                open.ended = true;
                std::panic::panic_any((*message).to_owned());
            }
            Act::Hang => pending().await,
            Act::Sleep(time) => sleep(*time).await,
            Act::Block(time) => hold_up(*time).await,
            Act::UntilSoft => {
                sleep_until(cx.deadline().into()).await;
                self.trace.add(format!("{} ends its stragglers", self.name));
                sleep(Duration::from_millis(500)).await;
            }
        }
        open.ended = true;
        self.trace.add(format!("{} ends", self.name));
        Ok(())
    }

    fn abort(&mut self) {
        self.trace.add(format!("{} aborts", self.name));
        assert!(!self.abort_panics, "the abort of {}", self.name);
    }

    fn release(&mut self) {
        self.trace.add(format!("{} releases", self.name));
        assert!(!self.release_panics, "the release of {}", self.name);
    }
}

/// Advances tokio's paused clock within one poll, so that the cleanup seems to block the executor.
async fn hold_up(time: Duration) {
    let mut advancing = pin!(advance(time));
    poll_fn(|cx| {
        // A single poll is enough: `advance` moves the clock in its first poll, and then only yields.
        let _ = advancing.as_mut().poll(cx);
        Poll::Ready(())
    })
    .await;
}

struct Open<'a> {
    name: &'static str,
    trace: &'a Trace,
    panics: bool,
    ended: bool,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.trace.add(format!("{} is cut", self.name));
            assert!(!self.panics, "the drop of {}", self.name);
        }
    }
}

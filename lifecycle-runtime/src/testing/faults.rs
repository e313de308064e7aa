//! Faults put in place of a step's cleanup.

use std::cell::RefCell;
use std::fmt;
use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::task::Poll;

use tokio::time::sleep;

use crate::engine::StepHandle;
use crate::{BoxError, Context};

/// What [`explore`](super::explore) does to a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Nothing.
    None,
    /// It fails instead.
    Error,
    /// It panics instead. The panic hook is not called, so nothing is printed.
    Panic,
    /// It never ends.
    Hang,
    /// It begins after half its time.
    Slow,
    /// The shutdown's future is dropped after its first poll, and the shutdown begun again: so its cleanup
    /// runs a second time.
    DroppedHere,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::None,
        Self::Error,
        Self::Panic,
        Self::Hang,
        Self::Slow,
        Self::DroppedHere,
    ];
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "goes well",
            Self::Error => "fails",
            Self::Panic => "panics",
            Self::Hang => "hangs",
            Self::Slow => "is slow",
            Self::DroppedHere => "runs when the shutdown's future is dropped",
        })
    }
}

/// The fault of this thread, and what came of it.
struct Planned {
    path: String,
    fault: Fault,
    tried: Tried,
}

/// What came of a fault.
#[derive(Default)]
pub(super) struct Tried {
    /// The step began.
    pub(super) reached: bool,
    /// The aborts that panicked: where, and how.
    pub(super) bad_aborts: Vec<(String, String)>,
}

thread_local! {
    static PLANNED: RefCell<Option<Planned>> = const { RefCell::new(None) };
}

/// Plans a fault for the step at a path. It lasts until the next one is planned.
pub(super) fn plan(path: &str, fault: Fault) {
    PLANNED.set(Some(Planned {
        path: path.to_owned(),
        fault,
        tried: Tried::default(),
    }));
}

/// Lets the step go well from now on.
pub(super) fn lift() {
    PLANNED.with_borrow_mut(|planned| {
        if let Some(planned) = planned {
            planned.fault = Fault::None;
        }
    });
}

/// There are no more. What came of the planned one.
pub(super) fn clear() -> Tried {
    PLANNED
        .take()
        .map(|planned| planned.tried)
        .unwrap_or_default()
}

pub(super) fn reached() -> bool {
    PLANNED.with_borrow(|planned| {
        planned
            .as_ref()
            .is_some_and(|planned| planned.tried.reached)
    })
}

/// An abort panicked, which a shutdown only logs.
pub(crate) fn abort_panicked(step: &str, message: &str) {
    PLANNED.with_borrow_mut(|planned| {
        if let Some(planned) = planned {
            planned
                .tried
                .bad_aborts
                .push((step.to_owned(), message.to_owned()));
        }
    });
}

/// The fault for this step, if it has one.
fn fault_of(cx: &Context) -> Fault {
    PLANNED.with_borrow_mut(|planned| {
        let Some(planned) = planned else {
            return Fault::None;
        };
        if cx.step().map(StepHandle::path).as_deref() != Some(&planned.path) {
            return Fault::None;
        }
        planned.tried.reached = true;
        planned.fault
    })
}

/// The cleanup of a step, or what is planned in its place.
pub(crate) async fn inject<F>(cx: &Context, cleanup: F) -> Result<(), BoxError>
where
    F: Future<Output = Result<(), BoxError>>,
{
    match fault_of(cx) {
        Fault::None => cleanup.await,
        Fault::Error => Err("an injected error".into()),
        // Unlike `panic!`, this does not call the panic hook, which would print a message and a backtrace.
        Fault::Panic => std::panic::resume_unwind(Box::new("an injected panic")),
        Fault::Hang => pending().await,
        Fault::DroppedHere => {
            let mut cleanup = pin!(cleanup);
            poll_fn(|cx| Poll::Ready(cleanup.as_mut().poll(cx).is_ready())).await;
            pending().await
        }
        Fault::Slow => {
            sleep(cx.remaining() / 2).await;
            cleanup.await
        }
    }
}

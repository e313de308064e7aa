//! Faults that replace the cleanup of a step.

use std::cell::RefCell;
use std::fmt;
use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::task::Poll;

use tokio::time::sleep;

use crate::engine::StepHandle;
use crate::{BoxError, Context};

/// A fault that [`explore`](fn@super::explore) injects into a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// There is no fault.
    None,
    /// The cleanup is replaced by an error.
    Error,
    /// The cleanup is replaced by a panic. The panic hook is not called, so nothing is printed.
    Panic,
    /// The cleanup never ends.
    Hang,
    /// The cleanup begins only after half of its time has passed.
    Slow,
    /// The shutdown's future is dropped after the step's first poll, and the shutdown is then resumed. So the cleanup
    /// runs a second time.
    DroppedHere,
}

impl Fault {
    /// The list of all faults.
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

/// The fault that this thread injects, and its effects so far.
struct Planned {
    path: String,
    fault: Fault,
    result: FaultResult,
}

/// The observed effects of a planned fault.
#[derive(Default)]
pub(super) struct FaultResult {
    /// Whether the step with the fault began.
    pub(super) reached: bool,
    /// The calls of `abort` that panicked: the paths of their steps, and the messages.
    pub(super) bad_aborts: Vec<(String, String)>,
}

thread_local! {
    static PLANNED: RefCell<Option<Planned>> = const { RefCell::new(None) };
}

/// Plans a fault for the step at `path`. It replaces the fault that was planned before.
pub(super) fn plan(path: &str, fault: Fault) {
    PLANNED.set(Some(Planned {
        path: path.to_owned(),
        fault,
        result: FaultResult::default(),
    }));
}

/// Sets the planned fault to none, so that the step succeeds from now on.
pub(super) fn lift() {
    PLANNED.with_borrow_mut(|planned| {
        if let Some(planned) = planned {
            planned.fault = Fault::None;
        }
    });
}

/// Removes the planned fault, and returns what was observed.
pub(super) fn clear() -> FaultResult {
    PLANNED
        .take()
        .map(|planned| planned.result)
        .unwrap_or_default()
}

pub(super) fn reached() -> bool {
    PLANNED.with_borrow(|planned| {
        planned
            .as_ref()
            .is_some_and(|planned| planned.result.reached)
    })
}

/// Records a call of `abort` that panicked, which a shutdown only logs.
pub(crate) fn abort_panicked(step: &str, message: &str) {
    PLANNED.with_borrow_mut(|planned| {
        if let Some(planned) = planned {
            planned
                .result
                .bad_aborts
                .push((step.to_owned(), message.to_owned()));
        }
    });
}

/// Returns the fault that is planned for this step.
fn fault_of(cx: &Context) -> Fault {
    PLANNED.with_borrow_mut(|planned| {
        let Some(planned) = planned else {
            return Fault::None;
        };
        if cx.step().map(StepHandle::path).as_deref() != Some(&planned.path) {
            return Fault::None;
        }
        planned.result.reached = true;
        planned.fault
    })
}

/// Runs the cleanup of a step, or the fault planned in its place.
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

//! Faults put in place of a step's cleanup.

use std::cell::RefCell;
use std::fmt;
use std::future::{Future, pending};

use tokio::time::sleep;

use crate::engine::Seat;
use crate::{BoxError, Context};

/// What [`explore`](super::explore) does to a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Nothing.
    None,
    /// It fails instead.
    Error,
    /// It panics instead.
    Panic,
    /// It never ends.
    Hang,
    /// It begins after half its time.
    Slow,
    /// The shutdown's future is dropped while it runs, and the shutdown begun again.
    DroppedHere,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::None, Self::Error, Self::Panic, Self::Hang, Self::Slow, Self::DroppedHere];
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

/// The fault of this thread, and whether its step was reached.
struct Planned {
    path: String,
    fault: Fault,
    reached: bool,
}

thread_local! {
    static PLANNED: RefCell<Option<Planned>> = const { RefCell::new(None) };
}

/// Plans a fault for the step at a path. It lasts until the next one is planned.
pub(super) fn plan(path: &str, fault: Fault) {
    PLANNED.set(Some(Planned {
        path: path.to_owned(),
        fault,
        reached: false,
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

/// There are no more. Whether the planned one was reached.
pub(super) fn clear() -> bool {
    PLANNED.take().is_some_and(|planned| planned.reached)
}

pub(super) fn reached() -> bool {
    PLANNED.with_borrow(|planned| planned.as_ref().is_some_and(|planned| planned.reached))
}

/// The fault for this step, if it has one.
fn fault_of(cx: &Context) -> Fault {
    PLANNED.with_borrow_mut(|planned| {
        let Some(planned) = planned else { return Fault::None };
        if cx.seat().map(Seat::path).as_deref() != Some(&planned.path) {
            return Fault::None;
        }
        planned.reached = true;
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
        Fault::Panic => panic!("an injected panic"),
        Fault::Hang | Fault::DroppedHere => pending().await,
        Fault::Slow => {
            sleep(cx.remaining() / 2).await;
            cleanup.await
        }
    }
}

//! The key `blocking`: a cleanup that runs on tokio's blocking pool, where it can borrow nothing.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::BoxError;
use crate::engine::{StepRun, contain};

/// A field whose value can be moved to the blocking pool and back.
#[diagnostic::on_unimplemented(
    message = "`blocking` cannot move a `{Self}` to the blocking pool and back",
    label = "neither `Option<…>` nor `Arc<…>`",
    note = "the blocking pool cannot borrow a field: write it as `Option<…>`, which is taken and put back, or as `Arc<…>`, which is cloned"
)]
pub trait Blocking {
    /// The type of the moved value.
    type Moved: Send + 'static;
    /// Takes the value out of the field. Returns `None` if there is nothing to clean.
    fn take_out(&mut self) -> Option<Self::Moved>;
    /// Puts a value back that `take_out` returned.
    fn put_back(&mut self, value: Self::Moved);
    /// Returns the value, or `None` if the field is empty.
    fn value(&mut self) -> Option<&mut Self::Moved>;
}

impl<T: Send + 'static> Blocking for Option<T> {
    type Moved = T;

    fn take_out(&mut self) -> Option<T> {
        self.take()
    }

    fn put_back(&mut self, value: T) {
        *self = Some(value);
    }

    fn value(&mut self) -> Option<&mut T> {
        self.as_mut()
    }
}

impl<T: Send + Sync + ?Sized + 'static> Blocking for Arc<T> {
    type Moved = Self;

    fn take_out(&mut self) -> Option<Self> {
        Some(Self::clone(self))
    }

    fn put_back(&mut self, _value: Self) {}

    fn value(&mut self) -> Option<&mut Self> {
        Some(self)
    }
}

/// The result of a call on the blocking pool: its return value, or the message of its panic.
type Returned = Result<Result<(), BoxError>, String>;

/// The state of a call, which the call and the step that waits for it share.
enum Handover<T> {
    Running,
    Ended(T, Returned),
    Abandoned(Box<dyn FnOnce(&mut T) + Send>),
    Taken,
}

/// A call that runs on the blocking pool, with the value that it cleans.
struct Call<T> {
    task: JoinHandle<()>,
    handover: Arc<Mutex<Handover<T>>>,
}

/// Locks the handover, even if it is poisoned: every change of the handover is a single store.
fn lock<T>(handover: &Mutex<Handover<T>>) -> MutexGuard<'_, Handover<T>> {
    handover.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: Send + 'static> Call<T> {
    fn start(
        runtime: &Handle,
        mut value: T,
        f: impl FnOnce(&mut T) -> Result<(), BoxError> + Send + 'static,
    ) -> Self {
        let handover = Arc::new(Mutex::new(Handover::Running));
        let ends = Arc::clone(&handover);
        let task = runtime.spawn_blocking(move || {
            // The call is contained here, so that a panic does not lose the value.
            let returned = contain(|| f(&mut value));
            let mut handover = lock(&ends);
            match mem::replace(&mut *handover, Handover::Taken) {
                Handover::Abandoned(abort) => {
                    drop(handover);
                    if let Err(message) = contain(|| abort(&mut value)) {
                        crate::log::part_abort_panicked(&message);
                    }
                    let _ = contain(|| drop(value));
                }
                Handover::Running | Handover::Ended(..) | Handover::Taken => {
                    *handover = Handover::Ended(value, returned);
                }
            }
        });
        Self { task, handover }
    }

    /// Takes the value and the result of the call. Returns `None` as long as the call has not ended.
    fn take(&self) -> Option<(T, Returned)> {
        let mut handover = lock(&self.handover);
        match mem::replace(&mut *handover, Handover::Taken) {
            Handover::Ended(value, returned) => Some((value, returned)),
            other => {
                *handover = other;
                None
            }
        }
    }

    /// Makes the call run `abort` on the value when the call ends. If the call has already ended, returns the value and
    /// the closure instead.
    fn abandon<A>(&self, abort: A) -> Option<(T, A)>
    where
        A: FnOnce(&mut T) + Send + 'static,
    {
        let mut handover = lock(&self.handover);
        match mem::replace(&mut *handover, Handover::Taken) {
            Handover::Ended(value, _) => Some((value, abort)),
            Handover::Running | Handover::Abandoned(_) | Handover::Taken => {
                *handover = Handover::Abandoned(Box::new(abort));
                None
            }
        }
    }
}

/// Runs `f` on the blocking pool. A call cannot be cut there: at the deadline the step ends, and the call goes on.
///
/// If this future is dropped before the call ends, the next run of the step waits for the same call.
///
/// # Errors
///
/// The error of `f`, or that there is no runtime.
///
/// # Panics
///
/// If `f` panics, with the same message. The engine turns the panic into an outcome.
pub async fn blocking<B: Blocking>(
    field: &mut B,
    step: &StepRun,
    f: impl FnOnce(&mut B::Moved) -> Result<(), BoxError> + Send + 'static,
) -> Result<(), BoxError> {
    let earlier = step.handle().take_left();
    let call = match earlier.and_then(|left| left.downcast::<Call<B::Moved>>().ok()) {
        Some(call) => *call,
        None => {
            // The runtime is checked first: without one the value would be dropped together with the closure.
            let runtime = Handle::try_current()?;
            match field.take_out() {
                None => return step.found_nothing(),
                Some(value) => Call::start(&runtime, value, f),
            }
        }
    };
    let cx = step.cx();
    cx.waiting_for(|| "its call on the blocking pool, which cannot be cut and goes on".into());
    let mut waiting = Waiting {
        call: Some(call),
        step,
    };
    let (task, given_back) = waiting.ended().await;
    match (given_back, task) {
        (Some((value, returned)), _) => {
            field.put_back(value);
            match returned {
                Ok(returned) => returned,
                Err(message) => std::panic::resume_unwind(Box::new(message)),
            }
        }
        (None, Err(error)) => Err(error.into()),
        (None, Ok(())) => Err("the call on the blocking pool did not return its value".into()),
    }
}

/// Runs `f`, which consumes the value, on the blocking pool; see [`blocking`].
///
/// # Errors
///
/// The error of `f`, or that there is no runtime.
pub async fn blocking_taken<T: Send + 'static>(
    field: &mut Option<T>,
    step: &StepRun,
    f: impl FnOnce(T) -> Result<(), BoxError> + Send + 'static,
) -> Result<(), BoxError> {
    let mut taken = field.take().map(Some);
    let ended = blocking(&mut taken, step, |taken: &mut Option<T>| {
        match taken.take() {
            Some(value) => f(value),
            None => Ok(()),
        }
    })
    .await;
    // The value is still in `taken` only if the call could not begin.
    if let Some(Some(value)) = taken {
        *field = Some(value);
    }
    ended
}

/// Runs `abort` on the value of a `blocking` step: now if the value is in the field, or else when the call ends.
pub fn abort_blocking<B: Blocking>(
    field: &mut B,
    step: &StepRun,
    abort: impl FnOnce(&mut B::Moved) + Send + 'static,
) {
    if let Some(value) = field.value() {
        return abort(value);
    }
    let left = step.handle().take_left();
    let call = left.and_then(|left| left.downcast::<Call<B::Moved>>().ok());
    if let Some((mut value, abort)) = call.and_then(|call| call.abandon(abort)) {
        abort(&mut value);
        field.put_back(value);
    }
}

/// A call that a step is waiting for. Dropping this value stores the call for the step's next run.
struct Waiting<'a, T: Send + 'static> {
    call: Option<Call<T>>,
    step: &'a StepRun,
}

type TaskEnd = Result<(), tokio::task::JoinError>;

impl<T: Send + 'static> Waiting<'_, T> {
    async fn ended(&mut self) -> (TaskEnd, Option<(T, Returned)>) {
        let Some(call) = &mut self.call else {
            return std::future::pending().await;
        };
        let task = (&mut call.task).await;
        let given_back = call.take();
        self.call = None;
        (task, given_back)
    }
}

impl<T: Send + 'static> Drop for Waiting<'_, T> {
    fn drop(&mut self) {
        if let Some(call) = self.call.take() {
            self.step.handle().leave(Box::new(call));
        }
    }
}

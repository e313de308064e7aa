//! `blocking`: a cleanup that runs on tokio's blocking pool, which borrows nothing.

use std::sync::Arc;

use tokio::task::{JoinError, JoinHandle, spawn_blocking};

use crate::engine::{Seat, message};
use crate::{BoxError, Context};

/// A field whose value can be moved to the blocking pool and back.
#[diagnostic::on_unimplemented(
    message = "`blocking` cannot move a `{Self}` to the blocking pool and back",
    label = "neither `Option<…>` nor `Arc<…>`",
    note = "the blocking pool cannot borrow a field: write it as `Option<…>`, which is taken and put back, or as `Arc<…>`, which is cloned"
)]
pub trait Lend {
    /// What is moved.
    type Lent: Send + 'static;
    /// Takes it. `None` if there is nothing to clean.
    fn lend(&mut self) -> Option<Self::Lent>;
    /// Puts it back.
    fn give_back(&mut self, lent: Self::Lent);
}

impl<T: Send + 'static> Lend for Option<T> {
    type Lent = T;

    fn lend(&mut self) -> Option<T> {
        self.take()
    }

    fn give_back(&mut self, lent: T) {
        *self = Some(lent);
    }
}

impl<T: Send + Sync + ?Sized + 'static> Lend for Arc<T> {
    type Lent = Self;

    fn lend(&mut self) -> Option<Self> {
        Some(Self::clone(self))
    }

    fn give_back(&mut self, _lent: Self) {}
}

type Ran<T> = JoinHandle<(T, Result<(), BoxError>)>;

/// Runs `f` on the blocking pool. It cannot be cut there: at the deadline it is left behind.
///
/// Where the future is dropped before, the next run of the step awaits the call that runs already.
pub async fn blocking<L: Lend>(
    field: &mut L,
    cx: &Context,
    f: impl FnOnce(&mut L::Lent) -> Result<(), BoxError> + Send + 'static,
) -> Result<(), BoxError> {
    let earlier = cx.seat().and_then(Seat::take_left);
    let running = match earlier.and_then(|left| left.downcast::<Ran<L::Lent>>().ok()) {
        Some(running) => *running,
        None => match field.lend() {
            None => return Ok(()),
            Some(mut lent) => spawn_blocking(move || {
                let ended = f(&mut lent);
                (lent, ended)
            }),
        },
    };
    cx.waiting_for(|| "its call on the blocking pool".into());
    let mut call = Call {
        running: Some(running),
        cx,
    };
    match call.await_end().await {
        Ok((lent, ended)) => {
            field.give_back(lent);
            ended
        }
        Err(error) => match error.try_into_panic() {
            // The engine's, which is around this, makes an outcome of it.
            Ok(payload) => std::panic::resume_unwind(Box::new(message(payload))),
            Err(error) => Err(error.into()),
        },
    }
}

/// A call that runs; dropped before its end, it is left to the next run.
struct Call<'a, T: Send + 'static> {
    running: Option<Ran<T>>,
    cx: &'a Context,
}

impl<T: Send + 'static> Call<'_, T> {
    async fn await_end(&mut self) -> Result<(T, Result<(), BoxError>), JoinError> {
        let ended = match &mut self.running {
            Some(running) => running.await,
            None => std::future::pending().await,
        };
        self.running = None;
        ended
    }
}

impl<T: Send + 'static> Drop for Call<'_, T> {
    fn drop(&mut self) {
        if let (Some(running), Some(seat)) = (self.running.take(), self.cx.seat()) {
            seat.leave(Box::new(running));
        }
    }
}

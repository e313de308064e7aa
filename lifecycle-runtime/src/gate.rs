//! The gate: it admits requests until it is closed, and waits until all of them have ended.
//!
//! The code cites these invariants by number. A *shard* is one word of memory. It holds the number of admitted passes
//! that have not left, and two marks, `CLOSED` and `TAKEN`. The *door* holds all shards and a mark of its own.
//!
//! 1. Admission is one atomic addition to a shard, and the value that the addition returns decides. Without `CLOSED` in
//!    that value the pass is issued; with `CLOSED` the addition is undone. So a pass is issued before its shard closes,
//!    or never. A clone of a pass is added to the same shard, closed or not: the original keeps that shard from being
//!    empty.
//! 2. `close` marks the door, then every shard, before it returns. Afterwards only clones of passes are issued.
//! 3. A shard is *taken* once, by the thread that changes it from closed, empty and untaken to taken, in one
//!    compare-exchange. Each taken shard subtracts one from `remaining`.
//! 4. The gate is drained when `remaining` is zero. Then every shard is closed and every pass has left. The gate stays
//!    drained: an entrant that is refused adds to its shard for a moment, but the shard is already taken.
//! 5. A thread that drops a pass touches nothing after it has subtracted the pass, unless the subtraction emptied a
//!    closed shard.
//! 6. An entrant reads the door's mark before it adds to a shard, so threads that keep trying to enter a closed gate
//!    only read. The mark is on cache lines that nothing writes before the close. Reading the shard instead would wait
//!    for the thread's own last addition to that shard.
//! 7. A core goes back to the pool once its gate is dropped *and* the core is drained. One word holds both facts, so of
//!    the two operations that set them exactly one, the later, sees both.

mod core;
mod labels;
mod pool;
mod sync;

#[cfg(all(test, lifecycle_loom))]
mod loom_tests;

use std::borrow::Cow;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use crate::engine::Timer;
use crate::{BoxError, Component, Context, MustClean};

use self::core::{Core, Shard};
use self::labels::Labels;

pub(crate) use self::labels::longest;

/// A gate that admits requests until it is closed, and lets callers wait until all admitted requests have ended.
///
/// A gate counts exactly, wakes its waiters without polling, and splits its count among threads. A [`Pass`] costs one
/// addition and one subtraction on a cache line that other threads leave alone, and no allocation. Clones share the
/// gate. Dropping a clone changes nothing, but dropping the last clone closes the gate.
///
/// As a component, a gate closes and then waits until it is drained. Meanwhile it reports how many passes have not been
/// dropped, and which [labelled](Self::enter_labelled) passes are held longest.
///
/// ```
/// use lifecycle_runtime::Gate;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let gate = Gate::new();
/// let pass = gate.enter().expect("it is open");
///
/// gate.close();
/// assert!(gate.enter().is_err());
/// assert_eq!(gate.in_flight(), 1);
///
/// drop(pass);
/// gate.drained().await;
/// # }
/// ```
#[derive(Clone)]
#[doc(alias("drain", "semaphore", "wait_group"))]
pub struct Gate {
    /// The handle's core, kept here too, so that admission needs one memory access less.
    core: &'static Core,
    handle: Arc<Handle>,
}

/// The reference that all clones of a gate share. Dropping the last clone closes the core and gives it back to the
/// pool.
struct Handle {
    core: &'static Core,
    labels: Arc<Labels>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.core.close();
        self.core.abandon();
    }
}

/// The permission to run one request, from [`Gate::enter`]. Drop the pass when the request has ended, on any thread.
///
/// Clone the pass for a part of the request that may run longer than the request itself. The gate waits for all clones.
/// A pass can be cloned even after the gate has closed.
#[must_use = "a pass that is dropped at once has left the gate"]
pub struct Pass {
    core: &'static Core,
    shard: &'static Shard,
}

/// A [`Pass`] with a name, which the shutdown's report shows while it waits for the request.
#[must_use = "a pass that is dropped at once has left the gate"]
pub struct LabelledPass {
    label: u64,
    labels: Arc<Labels>,
    // This field is dropped after `Drop` has removed the label, so a drained gate has no labels.
    pass: Pass,
}

/// An error: the gate, or the group of tasks, is closed and admits nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

impl Gate {
    /// Creates an open gate.
    pub fn new() -> Self {
        let core = pool::take();
        let labels = Arc::default();
        Self {
            core,
            handle: Arc::new(Handle { core, labels }),
        }
    }

    /// Admits a request.
    ///
    /// # Errors
    ///
    /// [`Closed`] once the gate is closed.
    #[inline]
    pub fn enter(&self) -> Result<Pass, Closed> {
        let shard = self.core.enter()?;
        Ok(Pass {
            core: self.core,
            shard,
        })
    }

    /// Admits a request with a name. When a shutdown waits for the request, the report shows the name and how long the
    /// request has been running. Each call takes a lock that all labelled passes of the gate share.
    ///
    /// # Errors
    ///
    /// [`Closed`] once the gate is closed.
    pub fn enter_labelled(
        &self,
        name: impl Into<Cow<'static, str>>,
    ) -> Result<LabelledPass, Closed> {
        let pass = self.enter()?;
        let labels = Arc::clone(&self.handle.labels);
        Ok(LabelledPass {
            label: labels.add(name.into()),
            labels,
            pass,
        })
    }

    /// Closes the gate. After this method has returned, no pass is issued, and earlier passes stay valid. The method
    /// does not wait for those passes: see [`drained`](Self::drained).
    pub fn close(&self) {
        self.core.close();
    }

    /// Returns whether the gate is closed.
    pub fn is_closed(&self) -> bool {
        self.core.is_closed()
    }

    /// Waits until the gate is closed.
    ///
    /// # Cancel safety
    ///
    /// Safe: dropping the future loses nothing.
    pub fn closed(&self) -> impl Future<Output = ()> + Send {
        self.core.closed()
    }

    /// Waits until the gate is closed and every pass has been dropped. Does not close the gate: call
    /// [`close`](Self::close).
    ///
    /// # Cancel safety
    ///
    /// Safe: dropping the future loses nothing.
    pub fn drained(&self) -> impl Future<Output = ()> + Send {
        self.core.drained()
    }

    /// Returns whether the gate is closed and every pass has been dropped.
    pub fn is_drained(&self) -> bool {
        self.core.is_drained()
    }

    /// Returns the number of passes that have not been dropped. The number is exact once the gate is closed and no
    /// thread tries to enter; before that it is a snapshot.
    pub fn in_flight(&self) -> usize {
        self.core.in_flight()
    }

    /// Waits until the gate is drained or `deadline` has passed, and returns whether the gate is drained. Creates a
    /// timer only if it has to wait, and works on runtimes without a time driver.
    pub(crate) async fn drained_by(&self, deadline: Instant) -> bool {
        let mut drained = pin!(self.drained());
        let mut timer = Timer::new();
        poll_fn(|cx| match drained.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending => timer.poll(Some(deadline), cx).map(|()| false),
        })
        .await
    }

    /// Describes the passes that have not been dropped: `3 passes: upload for 3.1 s and 2 more`.
    pub(crate) fn held(&self, noun: &str) -> String {
        self.handle.labels.longest(self.in_flight(), noun)
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("closed", &self.is_closed())
            .field("in_flight", &self.in_flight())
            .finish()
    }
}

impl Pass {
    /// Waits until the gate closes. A long request waits for this, and then finishes early.
    ///
    /// # Cancel safety
    ///
    /// Safe: dropping the future loses nothing.
    pub fn cancelled(&self) -> impl Future<Output = ()> + Send {
        self.core.closed()
    }

    /// Returns whether the gate has closed.
    #[inline]
    pub fn is_cancelled(&self) -> bool {
        self.core.is_closed()
    }
}

impl Clone for Pass {
    #[inline]
    fn clone(&self) -> Self {
        self.core.enter_again(self.shard);
        Self { ..*self }
    }
}

impl Drop for Pass {
    #[inline]
    fn drop(&mut self) {
        self.core.leave(self.shard);
    }
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pass")
            .field("cancelled", &self.is_cancelled())
            .finish()
    }
}

impl LabelledPass {
    /// Waits until the gate closes; see [`Pass::cancelled`].
    ///
    /// # Cancel safety
    ///
    /// Safe: dropping the future loses nothing.
    pub fn cancelled(&self) -> impl Future<Output = ()> + Send {
        self.pass.cancelled()
    }

    /// Returns whether the gate has closed.
    pub fn is_cancelled(&self) -> bool {
        self.pass.is_cancelled()
    }

    /// Clones the pass without its label, for a part of the request that may run longer than this pass is held.
    pub fn pass(&self) -> Pass {
        self.pass.clone()
    }
}

impl Drop for LabelledPass {
    fn drop(&mut self) {
        self.labels.remove(self.label);
    }
}

impl fmt::Debug for LabelledPass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pass.fmt(f)
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the gate is closed")
    }
}

impl std::error::Error for Closed {}

impl MustClean for Gate {}
impl MustClean for &Gate {}

impl Component for Gate {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        Component::cleanup(&mut &*self, cx).await
    }

    // `release` is not overridden, since dropping the last clone of the gate closes it.
    fn abort(&mut self) {
        self.close();
    }
}

impl Component for &Gate {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        self.close();
        let gate = (*self).clone();
        cx.waiting_for(move || gate.held("pass"));
        self.drained().await;
        Ok(())
    }

    fn abort(&mut self) {
        self.close();
    }
}

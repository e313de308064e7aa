//! Admission and drain of requests.
//!
//! Invariants, cited by number where they are kept. A *shard* is one word: the number of passes it
//! admitted that have not left, and two marks, `CLOSED` and `TAKEN`.
//!
//! 1. Admission is one atomic addition to a shard, and the value it returns decides: without `CLOSED` the
//!    pass is issued, with it the addition is undone. So a pass is issued before its shard closes or never.
//!    A clone of a pass is added to the same shard whether that is closed or not: it cannot be empty meanwhile.
//! 2. `close` marks the door, then every shard, before it returns. After that no pass is issued but clones.
//! 3. A shard is *taken* once: by whoever turns it from closed, empty and untaken into taken, in one
//!    compare-exchange. Each taken shard takes one from `remaining`.
//! 4. The gate is drained when `remaining` is zero: then every shard is closed, and every pass has left. It
//!    stays drained: a refused entrant's passing addition finds the shard taken.
//! 5. Who leaves touches nothing after its subtraction unless that emptied a closed shard.
//! 6. The door's mark is looked at before a word is added to, so those who hammer a closed gate only read. It is on
//!    lines that nobody writes until then: looking at a word that was just added to would wait for that addition.
//! 7. A core goes back to the pool once its gate is gone *and* it is drained: both are in one word, so of the two
//!    operations that set them, the later one sees both, and it alone.

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

/// Admits requests until it is closed, then tells when all that were admitted have left.
///
/// Exact, driven by wake-ups, and sharded by thread: a [`Pass`] costs one addition and one subtraction
/// on a cache line that other threads leave alone, and no allocation. Clones share the gate; dropping
/// one changes nothing, dropping the last one closes it.
///
/// As a component it closes, then waits until it is drained, and says how many passes are out, with the
/// [labelled](Self::enter_labelled) ones that are held longest.
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
    handle: Arc<Handle>,
}

/// Gives the core back when the last gate is dropped.
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

/// An admission. Dropped when the request has ended, on whatever thread.
///
/// A clone is for a part of the request that may outlive the rest: the gate waits for all of them, and there may be more
/// also once it is closed.
#[must_use = "a pass that is dropped at once has left the gate"]
pub struct Pass {
    core: &'static Core,
    shard: &'static Shard,
}

/// A [`Pass`] with a name, for requests that are worth one.
#[must_use = "a pass that is dropped at once has left the gate"]
pub struct LabelledPass {
    label: u64,
    labels: Arc<Labels>,
    // Dropped after what `Drop` does, so that nothing is named once the gate is drained.
    pass: Pass,
}

/// The gate is closed: nothing is admitted any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

impl Gate {
    /// An open gate.
    pub fn new() -> Self {
        Self {
            handle: Arc::new(Handle {
                core: pool::take(),
                labels: Arc::default(),
            }),
        }
    }

    /// Admits a request.
    ///
    /// # Errors
    ///
    /// [`Closed`] once the gate is closed.
    #[inline]
    pub fn enter(&self) -> Result<Pass, Closed> {
        let core = self.handle.core;
        let shard = core.enter()?;
        Ok(Pass { core, shard })
    }

    /// Admits a request that is named, with how long it has been inside, when a shutdown waits for it. Costs a
    /// lock that all labelled passes of the gate share.
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

    /// Closes it. After this returns no pass is issued; those that were, stay valid. Waits for nobody:
    /// see [`drained`](Self::drained).
    pub fn close(&self) {
        self.handle.core.close();
    }

    /// Whether it is closed.
    pub fn is_closed(&self) -> bool {
        self.handle.core.is_closed()
    }

    /// Waits until the gate is closed.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is lost if it is dropped.
    pub fn closed(&self) -> impl Future<Output = ()> + Send {
        self.handle.core.closed()
    }

    /// Waits until the gate is closed and every pass has left. Does not close it: call
    /// [`close`](Self::close).
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is lost if it is dropped.
    pub fn drained(&self) -> impl Future<Output = ()> + Send {
        self.handle.core.drained()
    }

    /// Whether it is closed and every pass has left.
    pub fn is_drained(&self) -> bool {
        self.handle.core.is_drained()
    }

    /// How many passes are out. Exact once the gate is closed and nobody tries to enter; a snapshot
    /// before.
    pub fn in_flight(&self) -> usize {
        self.handle.core.in_flight()
    }

    /// Waits until it is drained, or until `deadline`. Makes no timer unless it has to wait, and needs no runtime
    /// that has one.
    pub(crate) async fn drained_by(&self, deadline: Instant) -> bool {
        let mut drained = pin!(self.drained());
        let mut timer = Timer::new();
        poll_fn(|cx| match drained.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending => timer.poll(Some(deadline), cx).map(|()| false),
        })
        .await
    }

    /// `3 passes: upload for 3.1 s and 2 more`.
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
    /// Waits until the gate closes: the sign to finish early, for a request that could go on.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is lost if it is dropped.
    pub fn cancelled(&self) -> impl Future<Output = ()> + Send {
        self.core.closed()
    }

    /// Whether the gate has closed.
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
    /// Safe: nothing is lost if it is dropped.
    pub fn cancelled(&self) -> impl Future<Output = ()> + Send {
        self.pass.cancelled()
    }

    /// Returns whether the gate has closed.
    pub fn is_cancelled(&self) -> bool {
        self.pass.is_cancelled()
    }

    /// Returns another pass, without a label, for a part of the request that may outlive this one.
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

    // Nothing to release: the last gate closes when it is dropped.
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

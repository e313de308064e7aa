//! The traits of the crate. Steps clean components, and an owner has a shutdown of its own.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;

use crate::{Context, Plan};

/// The error of a cleanup: any error that can be sent between threads.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// A value that can be cleaned up: a leaf such as a task or a pool, or a derived struct.
///
/// A shared component implements the trait on `&T`, as `File` implements `Read` on `&File`. Then `Arc<T>` is a
/// component, too. An explicit shutdown acts on the shared value, even if other code holds it.
/// [`release`](Component::release) on an `Arc` acts only if it is the last `Arc`.
///
/// Do not implement the trait on a reference to a container (`&Vec<T>`, `&Option<T>`, `&Arc<T>`): such recursive
/// by-reference implementations overflow the trait solver in crates downstream.
///
/// # Cancel safety
///
/// The future of [`cleanup`](Component::cleanup) may be dropped half-way. `cleanup` may be called again, after its
/// future was dropped or after it ended. The second run must clean what is left, and do nothing if nothing is left.
///
/// The engine does not repeat the cleanup of components that it knows to have ended: the steps of a derived type that
/// is the field itself, owners, tasks, and the elements of [`Components`](crate::Components). It runs every other
/// cleanup again, in the order that the component chooses. So a component may drop the parts that it has cleaned, and
/// its parts may be removed, added or reordered between two runs.
///
/// # Implementations
///
/// With the feature `rt`, the trait is implemented for these types of std, tokio and tokio-util. Their cleanups are
/// cancel-safe, and a second cleanup has nothing to do.
///
/// | type | cleanup | `abort` | `release` |
/// |---|---|---|---|
/// | `tokio::task::JoinHandle`, `JoinSet` | waits until [`Context::deadline`]; aborts and awaits tasks that still run, which is [`TimedOut`](crate::TimedOut); an error or panic of a task is the step's | aborts | aborts |
/// | `tokio_util::task::AbortOnDropHandle` | aborts, then awaits; an error or panic of the task is the step's | aborts | aborts |
/// | `CancellationToken` | cancels | cancels | nothing: other code holds it |
/// | `TaskTracker` | closes, waits for every tracked task | nothing | nothing |
/// | `tokio::process::Child` | sends SIGTERM to it or the group it leads, waits until all have ended; sends SIGKILL at [`Context::deadline`], which is an error | SIGKILL | SIGKILL |
/// | `tokio::fs::File` | flushes, syncs to disk | nothing | nothing |
/// | `Option`, `Box` | cleans the value inside | the same | the same |
/// | `Arc<T>` where `&T` is a component | cleans the shared value | the same | the same, if it is the last and there is no `Weak` |
/// | slices, arrays, `Vec`, `VecDeque`, `HashMap`, `BTreeMap` | cleans all elements together, a row each: `[0]`, `[key]` | the same | the same |
/// | tuples of up to twelve | cleans all fields together, a row each: `0`, `1` | the same | the same |
/// | `Mutex`, `RwLock` of std and tokio | cleans the value inside | the same | the same |
/// | `&Mutex`, `&RwLock`, hence `Arc<Mutex<T>>`, where `T: Default` | takes the value out, unlocks, cleans it | the same, if the lock is free | the same, if the lock is free |
///
/// - **Tasks** are waited for. To abort them at once, hold them in an `AbortOnDropHandle`, or write `with =
///   JoinSet::shutdown`. A task must return a [`TaskOutput`](crate::TaskOutput), so that its `Err` is seen.
/// - **A `TaskTracker`** does not know how its tasks ended, so it cannot report one that failed or panicked. A
///   [`TaskGroup`](crate::TaskGroup) keeps every error and panic with the task's name.
/// - **A handle that was read.** A `JoinHandle` panics when it is awaited after it gave its output, and has no method
///   that tells this beforehand. So the cleanup of a finished handle awaits it, and contains that panic; a panic hook
///   still sees the panic. In a `select!`, await the handle through an `Option` that is set to `None` when the task has
///   ended.
/// - **Process groups.** If the child leads a process group (`Command::process_group(0)`), signals go to the whole
///   group, and the cleanup waits until the whole group has ended. The leader stays unreaped until then, so that no
///   other group can get its number. Processes that have not ended at [`Context::deadline`] are killed, and the error
///   names them. A process that has ended counts as ended before its parent reaps it; a process that has left the
///   group does not count. Processes that the group starts after the SIGTERM get a SIGTERM of their own when the
///   leader has ended. A resumed cleanup sends another SIGTERM.
/// - **Process groups without `/proc`.** Only Linux shows the processes of a group. On other systems, and if `/proc`
///   cannot be read, the leader is reaped when it ends. The cleanup waits for processes that outlive the leader, but
///   can no longer kill them without a risk for other processes; if they still run at [`Context::deadline`], that is an
///   error. On systems without signals the child is killed.
/// - **A child that was awaited.** After `Child::wait` or `try_wait` has returned a status, the number of the child may
///   belong to another process. So the cleanup of such a child does nothing and succeeds, even if the child led a group
///   that still runs. Leave the waiting to the cleanup, or end the group first.
/// - **Locks** are waited for without blocking the thread, and poisoned locks are used as they are. A cleanup that
///   fails or is dropped half-way puts its value back. A value that other code put into the lock meanwhile is then
///   aborted, released and dropped; if the lock is not free, the taken value is aborted, released and dropped. A value
///   that other code puts in during a cleanup that succeeds stays there, so close its source first. An owner has no
///   sensible `Default`: write `Mutex<Option<Owner>>`.
///
/// # Examples
///
/// ```
/// use lifecycle_runtime::{BoxError, Component, Context};
///
/// struct Journal {
///     pending: Vec<String>,
/// }
///
/// impl Component for Journal {
///     async fn cleanup(&mut self, _cx: &Context) -> Result<(), BoxError> {
///         // A line is removed once it is written, so a second run continues with the rest.
///         while let Some(line) = self.pending.last() {
///             println!("{line}");
///             self.pending.pop();
///         }
///         Ok(())
///     }
///
///     fn abort(&mut self) {
///         self.pending.clear();
///     }
/// }
/// ```
///
/// # Compatibility
///
/// Implementing the trait for a type that is already in use is a minor change: a field of that type without an
/// attribute compiles with a warning. [`MustClean`] turns this warning into an error.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a component: nothing says how to clean it up",
    label = "no `Component` for this type",
    note = "derive `GracefulShutdown` on it (with `#[shutdown(part)]` if it lives inside another), or implement `Component` for it",
    note = "for a type of another crate, write how on the field: `#[shutdown(with = |value| value.close())]`",
    note = "if there is nothing to clean, write `#[shutdown(skip)]` or remove the attribute",
    note = "an `Arc<T>` is a component if `&T` is one; an owner is never shared: hold it once, and share its parts"
)]
#[doc(alias("shutdown", "cleanup", "async_drop"))]
pub trait Component: Send {
    /// The plan of this type: its steps with their order and time limits. A leaf has no steps.
    const PLAN: Plan = Plan::leaf();

    /// Cleans up this value. See [cancel safety](Component#cancel-safety).
    ///
    /// `cx` gives the reason of the shutdown, and the time that the cleanup has. At [`Context::deadline`] the cleanup
    /// should abort what still runs and wait until that has ended. A little later the future is dropped and
    /// [`abort`](Component::abort) is called.
    ///
    /// # Errors
    ///
    /// Any error that kept the cleanup from being complete. It becomes [`Outcome::Failed`](crate::Outcome::Failed) in
    /// the report, and never stops the other steps.
    fn cleanup(&mut self, cx: &Context) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// Ends this value's work at once. The engine calls this method after `cleanup` failed, panicked, was cut at its
    /// deadline or was skipped.
    ///
    /// The method must not block or wait. Its panics are contained.
    fn abort(&mut self) {
        self.__end_parts(End::Abort);
    }

    /// Frees what this value alone owns. The `Drop` of an owner whose shutdown was not awaited calls this method.
    ///
    /// The method must not block, wait or spawn tasks. Its panics are contained.
    fn release(&mut self) {
        self.__end_parts(End::Release);
    }

    /// Implements `abort` and `release` of a derived type. One method serves both, since they have the same list of
    /// steps.
    #[doc(hidden)]
    fn __end_parts(&mut self, end: End) {
        let _ = end;
    }

    #[doc(hidden)]
    fn __plan(&self) -> crate::ResolvedPlan {
        Self::PLAN.into()
    }

    /// Whether the cleanup only runs the plan of this value itself, so that the step's field identifies that plan.
    #[doc(hidden)]
    const __IS_PLAN: bool = false;

    /// Returns whether there is nothing to clean, so that `cleanup` need not run.
    #[doc(hidden)]
    fn __is_empty(&self) -> bool {
        false
    }

    /// Returns whether each part of this value has its own row, so that no part is aborted twice.
    #[doc(hidden)]
    fn __is_composite(&self) -> bool {
        Self::PLAN.is_composite
    }

    /// Returns a key that identifies this value wherever it is moved.
    #[cfg(feature = "rt")]
    #[doc(hidden)]
    fn __identity(&mut self) -> Option<crate::engine::Identity> {
        None
    }
}

/// A mark for components that must not be forgotten: a field of such a type without an attribute does not compile.
///
/// A forgotten field of a component without this mark is only a warning. So a type can become a component in a minor
/// release, and code that has a field of that type still compiles. The warning is an error if the derive has `strict`.
///
/// This mark is on derived types, on the building blocks of this crate, and on its components of std, tokio and
/// tokio-util. A wrapper is marked if the type of its value is marked.
///
/// # Compatibility
///
/// Mark a type in the release that makes it public, or in a major release: the mark breaks code that forgot a field of
/// the type.
///
/// # Examples
///
/// ```
/// use lifecycle_runtime::{BoxError, Component, Context, MustClean};
///
/// pub struct Pool;
///
/// impl Component for Pool {
///     async fn cleanup(&mut self, _: &Context) -> Result<(), BoxError> {
///         Ok(())
///     }
/// }
///
/// impl MustClean for Pool {}
/// ```
// `Component` is not a supertrait, so that the check of a generic type requires no more than this mark of a type
// parameter.
pub trait MustClean {}

/// The two ways to end a value's work at once.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Call [`Component::abort`].
    Abort,
    /// Call [`Component::release`].
    Release,
}

/// The trait of an *owner*: a struct that has its own shutdown.
///
/// `#[derive(GracefulShutdown)]` implements it; do not implement it by hand.
#[cfg(feature = "rt")]
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not own a shutdown",
    label = "`GracefulShutdown` is not derived for this type",
    note = "write `#[derive(GracefulShutdown)]` on it and give it a field `#[shutdown(state)] state: ShutdownState`",
    note = "an owner is not shared: instead of an `Arc` of it, hold it once, and give handlers clones of its parts"
)]
pub trait GracefulShutdown: Component + crate::derived::Owner {
    /// Runs the plan. The returned [`Shutdown`](crate::Shutdown) does nothing until it is awaited.
    ///
    /// The plan runs only once: a second call returns the report of the first call. If the returned future is dropped
    /// half-way, the next call resumes the unfinished steps. Their deadlines do not change.
    fn shutdown(&mut self) -> crate::Shutdown<'_, Self>
    where
        Self: Sized,
    {
        crate::Shutdown::new(self)
    }

    /// Returns the plan of this value: [`Component::PLAN`] with its run-time timeouts.
    fn plan(&self) -> crate::ResolvedPlan {
        self.__plan()
    }
}

// This single implementation serves all owners. With one implementation for each owner, the compiler would prove again
// and again that the owner is `Send`. Without the attribute `do_not_recommend`, errors would be about `Owner`.
#[cfg(feature = "rt")]
#[diagnostic::do_not_recommend]
impl<T: Component + crate::derived::Owner> GracefulShutdown for T {}

/// The object-safe form of [`Component`], for lists of plugins: `Vec<Box<dyn DynComponent>>`.
///
/// Every component implements this trait, and `Box<dyn DynComponent>` is a component again.
///
#[cfg_attr(feature = "rt", doc = "```")]
#[cfg_attr(not(feature = "rt"), doc = "```ignore")]
/// use lifecycle_runtime::{BoxError, Component, Context, DynComponent, Reason};
/// use std::time::Duration;
///
/// struct Auth;
/// impl Component for Auth {
///     async fn cleanup(&mut self, _: &Context) -> Result<(), BoxError> {
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let mut plugins: Vec<Box<dyn DynComponent>> = vec![Box::new(Auth)];
/// let cx = Context::new(Reason::Requested, Duration::from_secs(5));
/// plugins.cleanup(&cx).await
/// # }
/// ```
pub trait DynComponent: Send {
    /// Runs [`Component::cleanup`], and returns its future in a box.
    fn dyn_cleanup<'a>(
        &'a mut self,
        cx: &'a Context,
    ) -> Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send + 'a>>;
    /// Calls [`Component::abort`].
    fn dyn_abort(&mut self);
    /// Calls [`Component::release`].
    fn dyn_release(&mut self);
    /// Returns [`Component::PLAN`] with the run-time timeouts.
    fn dyn_plan(&self) -> crate::ResolvedPlan;
    #[doc(hidden)]
    fn __dyn_is_empty(&self) -> bool;
    #[doc(hidden)]
    fn __dyn_is_composite(&self) -> bool;
    #[cfg(feature = "rt")]
    #[doc(hidden)]
    fn __dyn_identity(&mut self) -> Option<crate::engine::Identity>;
}

impl<T: Component> DynComponent for T {
    fn dyn_cleanup<'a>(
        &'a mut self,
        cx: &'a Context,
    ) -> Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send + 'a>> {
        Box::pin(self.cleanup(cx))
    }

    fn dyn_abort(&mut self) {
        self.abort();
    }

    fn dyn_release(&mut self) {
        self.release();
    }

    fn dyn_plan(&self) -> crate::ResolvedPlan {
        self.__plan()
    }

    fn __dyn_is_empty(&self) -> bool {
        self.__is_empty()
    }

    fn __dyn_is_composite(&self) -> bool {
        self.__is_composite()
    }

    #[cfg(feature = "rt")]
    fn __dyn_identity(&mut self) -> Option<crate::engine::Identity> {
        self.__identity()
    }
}

impl MustClean for dyn DynComponent + '_ {}

impl Component for dyn DynComponent + '_ {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        self.dyn_cleanup(cx).await
    }

    fn abort(&mut self) {
        self.dyn_abort();
    }

    fn release(&mut self) {
        self.dyn_release();
    }

    fn __plan(&self) -> crate::ResolvedPlan {
        self.dyn_plan()
    }

    fn __is_empty(&self) -> bool {
        self.__dyn_is_empty()
    }

    fn __is_composite(&self) -> bool {
        self.__dyn_is_composite()
    }

    #[cfg(feature = "rt")]
    fn __identity(&mut self) -> Option<crate::engine::Identity> {
        self.__dyn_identity()
    }
}

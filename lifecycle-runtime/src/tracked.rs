//! Tracked tasks: what `TaskGroup` and `Connections` have in common. A task is counted from before it is spawned until
//! after its future is dropped. The owner can list the names of its running tasks, abort all of them, and wait until
//! they are gone.

mod registry;
mod watched;

use std::fmt;
use std::future::Future;
use std::sync::{Arc, OnceLock};

use tokio::time::Instant;

use crate::engine::contain;
use crate::gate::{self, Closed, Gate, Pass};
use crate::{BoxError, Context, TaskOutcome};

use self::registry::Registry;
pub(crate) use self::watched::TaskGuard;

/// The shared state of a set of tracked tasks: of a `TaskGroup` or of `Connections`.
pub(crate) trait TaskOwner: Send + Sync + 'static {
    /// The owner's data about one task, such as its name.
    type Task: Clone + fmt::Display + Send + 'static;
    /// The noun for one task in messages, such as `task`.
    const NOUN: &'static str;

    fn tracked(&self) -> &Tracked<Self::Task>;

    /// Called before a task is spawned, with the gate's pass that the task will hold.
    fn on_admitted(&self, _task: &Self::Task, _pass: &Pass) {}

    /// Called when a task has ended with an error or a panic.
    fn on_failed(&self, task: &Self::Task, error: BoxError);

    /// Called when a task's future is dropped, however the task ended.
    fn on_ended(&self, _task: &Self::Task) {}

    /// Aborts every task, including tasks that other threads are just spawning.
    fn abort_all(&self) {
        self.tracked().abort();
    }
}

pub(crate) struct Tracked<T> {
    pub(crate) gate: Gate,
    tasks: Registry<T>,
    /// The names of the tasks that were aborted at the soft deadline. They are stored for the case that the cleanup's
    /// future is dropped and the cleanup begins again.
    stragglers: OnceLock<String>,
}

impl<T> Default for Tracked<T> {
    fn default() -> Self {
        Self {
            gate: Gate::new(),
            tasks: Registry::default(),
            stragglers: OnceLock::new(),
        }
    }
}

impl<T: Clone + fmt::Display> Tracked<T> {
    /// Returns every running task with the time when it was spawned, the oldest first.
    pub(crate) fn all(&self) -> Vec<(Instant, T)> {
        self.tasks.chosen(|_| true)
    }

    /// Returns the running tasks for which `choose` returns true, the oldest first.
    pub(crate) fn chosen(&self, choose: impl FnMut(&T) -> bool) -> Vec<T> {
        self.tasks
            .chosen(choose)
            .into_iter()
            .map(|(_, task)| task)
            .collect()
    }

    /// Closes the gate and aborts every task, including tasks that other threads are just spawning.
    pub(crate) fn abort(&self) {
        self.gate.close();
        self.tasks.abort();
    }

    /// Aborts the tasks for which `chosen` returns true.
    pub(crate) fn abort_where(&self, chosen: impl FnMut(&T) -> bool) {
        self.tasks.abort_where(chosen);
    }

    /// Describes the running tasks, the oldest first: `2 tasks: poller for 3.1 s, feed for 0.2 s`.
    fn names(&self, noun: &str) -> String {
        let all = self.all();
        gate::longest(all.len(), noun, &all)
    }
}

/// Spawns the future that `make` returns as a tracked task. `make` is called only if the owner's gate is open.
pub(crate) fn spawn<K, F>(
    owner: &Arc<K>,
    task: K::Task,
    make: impl FnOnce() -> F,
) -> Result<(), Closed>
where
    K: TaskOwner,
    F: Future<Output: TaskOutcome> + Send + 'static,
{
    let guard = TaskGuard::enter(owner, task)?;
    guard.spawn(owner, make());
    Ok(())
}

/// Spawns a function on tokio's blocking pool as a tracked task.
pub(crate) fn spawn_blocking<K, F, O>(owner: &Arc<K>, task: K::Task, f: F) -> Result<(), Closed>
where
    K: TaskOwner,
    F: FnOnce() -> O + Send + 'static,
    O: TaskOutcome,
{
    let guard = TaskGuard::enter(owner, task)?;
    let id = guard.id();
    let join = tokio::task::spawn_blocking(move || guard.call(f));
    owner.tracked().tasks.set_handle(id, join);
    Ok(())
}

/// Closes the gate, which tells the tasks to end, and waits until they have ended. At the soft deadline it aborts the
/// tasks that still run, waits for these too, and returns their names.
pub(crate) async fn drain<'a, K: TaskOwner>(owner: &'a Arc<K>, cx: &Context) -> Option<&'a str> {
    let tracked = owner.tracked();
    tracked.gate.close();
    // The reference is weak, since an `Arc` could make a cycle: a task may hold the handle of the shutdown, and that
    // shutdown holds this closure.
    let named = Arc::downgrade(owner);
    cx.waiting_for(move || {
        named
            .upgrade()
            .map_or_else(String::new, |it| it.tracked().names(K::NOUN))
    });
    if !tracked.gate.drained_by(cx.deadline()).await {
        // A name's `Display` may be foreign code. Even if it panics, the tasks must be aborted.
        let names = contain(|| tracked.names(K::NOUN))
            .unwrap_or_else(|_| "a task whose name cannot be displayed".into());
        tracked.stragglers.get_or_init(|| names);
        owner.abort_all();
        tracked.gate.drained().await;
    }
    tracked.stragglers.get().map(String::as_str)
}

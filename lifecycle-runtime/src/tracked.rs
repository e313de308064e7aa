//! Tracked tasks, which `TaskGroup` and `Connections` share. A task is counted from before it is spawned until after
//! its future is gone. It can be named while it runs, and all can be aborted together and awaited.

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

/// The shared state of a group of tracked tasks.
pub(crate) trait TaskOwner: Send + Sync + 'static {
    /// The group's data about a task.
    type Task: Clone + fmt::Display + Send + 'static;
    /// The word for one task in texts, such as `task`.
    const NOUN: &'static str;

    fn tracked(&self) -> &Tracked<Self::Task>;

    /// Called before a task is spawned, with the pass that it holds.
    fn on_admitted(&self, _task: &Self::Task, _pass: &Pass) {}

    /// Called when a task has ended with an error or a panic.
    fn on_failed(&self, task: &Self::Task, error: BoxError);

    /// Called when a task is gone, however it ended.
    fn on_ended(&self, _task: &Self::Task) {}

    /// Aborts every task, including those that are just being spawned.
    fn abort_all(&self) {
        self.tracked().abort();
    }
}

pub(crate) struct Tracked<T> {
    pub(crate) gate: Gate,
    tasks: Registry<T>,
    /// The names of the tasks that had to be aborted at the soft deadline. Kept for a cleanup that is resumed.
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
    /// Returns every task, the oldest first, with its start.
    pub(crate) fn all(&self) -> Vec<(Instant, T)> {
        self.tasks.chosen(|_| true)
    }

    /// Returns the tasks for which `choose` returns true, the oldest first.
    pub(crate) fn chosen(&self, choose: impl FnMut(&T) -> bool) -> Vec<T> {
        self.tasks
            .chosen(choose)
            .into_iter()
            .map(|(_, task)| task)
            .collect()
    }

    /// Closes the gate and aborts every task, including those that are just being spawned.
    pub(crate) fn abort(&self) {
        self.gate.close();
        self.tasks.abort();
    }

    /// Aborts the tasks for which `chosen` returns true.
    pub(crate) fn abort_where(&self, chosen: impl FnMut(&T) -> bool) {
        self.tasks.abort_where(chosen);
    }

    /// Describes the tasks, the oldest first: `2 tasks: poller for 3.1 s, feed for 0.2 s`.
    fn names(&self, noun: &str) -> String {
        let all = self.all();
        gate::longest(all.len(), noun, &all)
    }
}

/// Spawns the future that `make` returns. `make` is called only once the task is admitted.
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

/// Spawns a function on the blocking pool.
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

/// Closes the gate, which cancels the tasks, and waits. At the soft deadline it aborts the stragglers, awaits them
/// too, and returns their names.
pub(crate) async fn drain<'a, K: TaskOwner>(owner: &'a Arc<K>, cx: &Context) -> Option<&'a str> {
    let tracked = owner.tracked();
    tracked.gate.close();
    // Weak, since an `Arc` could be a cycle: a group may hold the handle of the very shutdown that holds this
    // closure.
    let named = Arc::downgrade(owner);
    cx.waiting_for(move || {
        named
            .upgrade()
            .map_or_else(String::new, |it| it.tracked().names(K::NOUN))
    });
    if !tracked.gate.drained_by(cx.deadline()).await {
        // A name's `Display` may be foreign code. If it panics, the tasks must be aborted all the same.
        let names = contain(|| tracked.names(K::NOUN))
            .unwrap_or_else(|_| "a task whose name cannot be displayed".into());
        tracked.stragglers.get_or_init(|| names);
        owner.abort_all();
        tracked.gate.drained().await;
    }
    tracked.stragglers.get().map(String::as_str)
}

//! Tasks that are counted from before they are spawned until after their futures are gone, that can be named
//! while they run, aborted together and awaited: what `TaskGroup` and `Connections` have in common.

mod registry;
mod watched;

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use crate::gate::{Closed, Gate};
use crate::{BoxError, Context, TaskOutcome};

use self::registry::Registry;
use self::watched::Watched;

/// What keeps tracked tasks.
pub(crate) trait Keeper: Send + Sync + 'static {
    /// What is known of a task.
    type Task: Clone + fmt::Display + Send + 'static;
    /// What several are called: `tasks`.
    const NOUN: &'static str;

    fn tracked(&self) -> &Tracked<Self::Task>;

    /// A task ended with an error, or panicked.
    fn failed(&self, task: &Self::Task, error: BoxError);

    /// A task is gone, however it ended.
    fn gone(&self, task: &Self::Task);
}

pub(crate) struct Tracked<T> {
    pub(crate) gate: Gate,
    tasks: Registry<T>,
}

impl<T> Default for Tracked<T> {
    fn default() -> Self {
        Self {
            gate: Gate::new(),
            tasks: Registry::default(),
        }
    }
}

impl<T: Clone + fmt::Display> Tracked<T> {
    pub(crate) fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Every task there is, the oldest first, with its age.
    pub(crate) fn all(&self) -> Vec<(Instant, T)> {
        self.tasks.all()
    }

    /// Closes the gate and aborts every task, also those that are being spawned.
    pub(crate) fn abort(&self) {
        self.gate.close();
        self.tasks.abort();
    }

    /// Aborts the tasks that are chosen.
    pub(crate) fn abort_where(&self, chosen: impl FnMut(&T) -> bool) {
        self.tasks.abort_where(chosen);
    }

    /// `2 tasks: poller for 3.1 s, feed for 0.2 s`, the oldest first.
    pub(crate) fn names(&self, noun: &str) -> String {
        registry::names(&self.all(), noun)
    }
}

/// Spawns a task.
pub(crate) fn spawn<K, F>(keeper: &Arc<K>, task: K::Task, future: F) -> Result<(), Closed>
where
    K: Keeper,
    F: Future<Output: TaskOutcome> + Send + 'static,
{
    let watched = Watched::enter(keeper, task, future)?;
    let ticket = watched.ticket();
    let join = tokio::spawn(watched);
    keeper.tracked().tasks.joined(ticket, join);
    Ok(())
}

/// Spawns a function on the blocking pool.
pub(crate) fn spawn_blocking<K, F, O>(keeper: &Arc<K>, task: K::Task, f: F) -> Result<(), Closed>
where
    K: Keeper,
    F: FnOnce() -> O + Send + 'static,
    O: TaskOutcome,
{
    let watched = Watched::enter(keeper, task, f)?;
    let ticket = watched.ticket();
    let join = tokio::task::spawn_blocking(move || watched.call());
    keeper.tracked().tasks.joined(ticket, join);
    Ok(())
}

/// Closes the gate, which tells the tasks, and waits; at the soft deadline aborts those that are left and awaits
/// them too. Their names, if there were any.
pub(crate) async fn drain<K: Keeper>(keeper: &Arc<K>, cx: &Context) -> Option<String> {
    let tracked = keeper.tracked();
    tracked.gate.close();
    let named = Arc::clone(keeper);
    cx.waiting_for(move || named.tracked().names(K::NOUN));
    let deadline = Instant::from_std(cx.deadline());
    if timeout_at(deadline, tracked.gate.drained()).await.is_ok() {
        return None;
    }
    let names = tracked.names(K::NOUN);
    tracked.abort();
    tracked.gate.drained().await;
    Some(names)
}

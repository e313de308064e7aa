//! Tasks that are counted from before they are spawned until after their futures are gone, that can be named
//! while they run, aborted together and awaited: what `TaskGroup` and `Connections` have in common.

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
pub(crate) use self::watched::Place;

/// What keeps tracked tasks.
pub(crate) trait Keeper: Send + Sync + 'static {
    /// What is known of a task.
    type Task: Clone + fmt::Display + Send + 'static;
    /// What one is called: `task`.
    const NOUN: &'static str;

    fn tracked(&self) -> &Tracked<Self::Task>;

    /// A task is about to be spawned, under a pass.
    fn admitted(&self, _task: &Self::Task, _pass: &Pass) {}

    /// A task ended with an error, or panicked.
    fn failed(&self, task: &Self::Task, error: BoxError);

    /// A task is gone, however it ended.
    fn gone(&self, _task: &Self::Task) {}

    /// Aborts every task, also those that are being spawned.
    fn cut(&self) {
        self.tracked().abort();
    }
}

pub(crate) struct Tracked<T> {
    pub(crate) gate: Gate,
    tasks: Registry<T>,
    /// Who had to be aborted at the soft deadline. Kept for a cleanup that is taken up again.
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
    /// Every task there is, the oldest first, with when it began.
    pub(crate) fn all(&self) -> Vec<(Instant, T)> {
        self.tasks.chosen(|_| true)
    }

    /// Those that are chosen, the oldest first.
    pub(crate) fn chosen(&self, choose: impl FnMut(&T) -> bool) -> Vec<T> {
        self.tasks
            .chosen(choose)
            .into_iter()
            .map(|(_, task)| task)
            .collect()
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
    fn names(&self, noun: &str) -> String {
        let all = self.all();
        gate::longest(all.len(), noun, &all)
    }
}

/// Spawns what `make` makes, which is called once the task is admitted.
pub(crate) fn spawn<K, F>(
    keeper: &Arc<K>,
    task: K::Task,
    make: impl FnOnce() -> F,
) -> Result<(), Closed>
where
    K: Keeper,
    F: Future<Output: TaskOutcome> + Send + 'static,
{
    let place = Place::enter(keeper, task)?;
    place.spawn(keeper, make());
    Ok(())
}

/// Spawns a function on the blocking pool.
pub(crate) fn spawn_blocking<K, F, O>(keeper: &Arc<K>, task: K::Task, f: F) -> Result<(), Closed>
where
    K: Keeper,
    F: FnOnce() -> O + Send + 'static,
    O: TaskOutcome,
{
    let place = Place::enter(keeper, task)?;
    let ticket = place.ticket();
    let join = tokio::task::spawn_blocking(move || place.call(f));
    keeper.tracked().tasks.joined(ticket, join);
    Ok(())
}

/// Closes the gate, which tells the tasks, and waits; at the soft deadline aborts those that are left and awaits
/// them too. Their names, if there were any.
pub(crate) async fn drain<'a, K: Keeper>(keeper: &'a Arc<K>, cx: &Context) -> Option<&'a str> {
    let tracked = keeper.tracked();
    tracked.gate.close();
    // Weak: a group may know the handle that knows the plan that knows this.
    let named = Arc::downgrade(keeper);
    cx.waiting_for(move || {
        named
            .upgrade()
            .map_or_else(String::new, |it| it.tracked().names(K::NOUN))
    });
    if !tracked.gate.drained_by(cx.deadline()).await {
        // A name may be told by somebody's code, which must not keep the others from being aborted.
        let names = contain(|| tracked.names(K::NOUN))
            .unwrap_or_else(|_| "a task that cannot be told".into());
        tracked.stragglers.get_or_init(|| names);
        keeper.cut();
        tracked.gate.drained().await;
    }
    tracked.stragglers.get().map(String::as_str)
}

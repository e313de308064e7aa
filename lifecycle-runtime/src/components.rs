//! A collection of components that are added and removed while the server runs: plugins, tenants, listeners.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join;
use tokio_util::sync::CancellationToken;

use crate::engine::{Element, Identity, KnownElements, address_of, contain};
use crate::gate::{Gate, LabelledPass};
use crate::state::DEFAULT_TIMEOUT;
use crate::{BoxError, Component, Context, DynComponent, MustClean, Reason, Report};

/// A collection of components that are inserted and removed at run time. Clones are cheap and share one collection.
///
/// The collection's shutdown cleans all components together, each with its own row in the report, such as
/// `plugins[auth]`. Once the shutdown has begun, an insert returns the component to the caller.
///
/// ```
/// use lifecycle_runtime::{BoxError, Component, Components, Context, Reason};
/// use std::time::Duration;
///
/// #[derive(Debug)]
/// struct Plugin;
/// impl Component for Plugin {
///     async fn cleanup(&mut self, _: &Context) -> Result<(), BoxError> {
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let mut plugins = Components::new();
/// let auth = plugins.insert("auth", Plugin).expect("it is open");
/// plugins.insert("cache", Plugin).expect("it is open");
///
/// let report = plugins.remove(auth).await.expect("it was there");
/// assert!(report.is_clean());
///
/// plugins.cleanup(&Context::new(Reason::Requested, Duration::from_secs(5))).await?;
/// assert!(plugins.insert("late", Plugin).is_err(), "handed back");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Components {
    shared: Arc<Shared>,
}

/// The id of one component of [`Components`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(u64);

#[derive(Default)]
struct Shared {
    items: Mutex<Items>,
    /// The gate that holds a pass for each removal that has not ended. The shutdown waits for these removals.
    removals: Gate,
    /// The token that ends the removals that have not ended when the shutdown can wait no longer.
    cut: CancellationToken,
}

/// Releases the components that are still in the collection when its last clone is dropped.
impl Drop for Shared {
    fn drop(&mut self) {
        let items = self.items.get_mut().unwrap_or_else(PoisonError::into_inner);
        for item in items.here.values_mut() {
            // The call is contained, so that a panic of one component does not affect the other components.
            let _ = contain(|| item.component.dyn_release());
        }
    }
}

/// The number of the next [`Id`]. It is counted for the whole process, so that an id identifies a component in any
/// collection.
static NEXT: AtomicU64 = AtomicU64::new(0);

#[derive(Default)]
struct Items {
    closed: bool,
    here: BTreeMap<Id, Item>,
}

struct Item {
    name: Cow<'static, str>,
    component: Box<dyn DynComponent>,
}

impl Shared {
    fn items(&self) -> MutexGuard<'_, Items> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the removals that have not ended. At the soft deadline it cuts these removals, and returns their
    /// names.
    async fn end_removals(&self, cx: &Context) -> Option<String> {
        self.removals.close();
        let removals = self.removals.clone();
        cx.waiting_for(move || removals.held("removal"));
        if self.removals.drained_by(cx.deadline()).await {
            return None;
        }
        let names = self.removals.held("removal");
        self.cut.cancel();
        self.removals.drained().await;
        Some(names)
    }
}

impl Components {
    /// Creates an empty collection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Inserts a component. `name` is for the report, and need not be unique.
    ///
    /// # Errors
    ///
    /// Returns the component itself if the shutdown has begun.
    pub fn insert<C: Component + 'static>(
        &self,
        name: impl Into<Cow<'static, str>>,
        component: C,
    ) -> Result<Id, C> {
        let mut items = self.shared.items();
        if items.closed {
            return Err(component);
        }
        // Relaxed is enough: the id only has to be unique.
        let id = Id(NEXT.fetch_add(1, Ordering::Relaxed));
        let item = Item {
            name: name.into(),
            component: Box::new(component),
        };
        items.here.insert(id, item);
        Ok(id)
    }

    /// Takes a component out and cleans it, within 25 s.
    ///
    /// Returns `None` if the component is not in the collection, because it was removed already or the shutdown is
    /// cleaning it. Also returns `None` if the shutdown begins during the removal and the shutdown's time is over
    /// before the cleanup has ended. In that case the component is aborted and released.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future puts the component back. If the shutdown has begun, the component is aborted and released
    /// instead.
    pub async fn remove(&self, id: Id) -> Option<Report> {
        self.remove_within(id, DEFAULT_TIMEOUT).await
    }

    /// Takes a component out and cleans it, like [`remove`](Self::remove), in at most the time `within`.
    pub async fn remove_within(&self, id: Id, within: Duration) -> Option<Report> {
        let name;
        let (item, pass) = {
            let mut items = self.shared.items();
            if items.closed {
                return None;
            }
            // The pass is taken under the lock, so that a shutdown that does not find the component finds its removal.
            name = items.here.get(&id)?.name.clone();
            let pass = self.shared.removals.enter_labelled(name.clone()).ok()?;
            (items.here.remove(&id)?, pass)
        };
        let mut taken = Taken {
            shared: &self.shared,
            items: vec![(id, item)],
            ended: false,
            removal: Some(pass),
        };
        let cx = Context::new(Reason::Requested, within);
        let report = self
            .shared
            .cut
            .run_until_cancelled(taken.clean(&cx))
            .await?;
        taken.ended = true;
        Some(report.named(name))
    }

    /// Returns the number of components.
    pub fn len(&self) -> usize {
        self.shared.items().here.len()
    }

    /// Returns whether there are no components.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the ids and names of the components, in the order of insertion.
    pub fn names(&self) -> Vec<(Id, Cow<'static, str>)> {
        let items = self.shared.items();
        items
            .here
            .iter()
            .map(|(id, item)| (*id, item.name.clone()))
            .collect()
    }

    fn take_all(&self) -> Vec<(Id, Item)> {
        let mut items = self.shared.items();
        items.closed = true;
        std::mem::take(&mut items.here).into_iter().collect()
    }

    fn each(&self, act: impl Fn(&mut dyn DynComponent)) {
        let known = KnownElements::of_scope();
        for (_, item) in &mut self.take_all() {
            let component = &mut *item.component;
            // The call is contained, so that a panic of one component does not affect the other components.
            let _ = contain(|| known.element(address_of(component), || act(component)));
        }
    }
}

/// The components that a cleanup has taken out. Dropping this value puts them back, unless the cleanup has ended.
struct Taken<'a> {
    shared: &'a Shared,
    items: Vec<(Id, Item)>,
    ended: bool,
    removal: Option<LabelledPass>,
}

impl Taken<'_> {
    async fn clean(&mut self, cx: &Context) -> Report {
        let elements = self.items.iter_mut().map(|(id, item)| Element {
            name: format!("[{}]", item.name).into(),
            identity: Some(Identity::Component(id.0)),
            is_positional: false,
            item: &mut *item.component,
        });
        cx.clean_elements(elements.collect()).await
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let mut items = self.shared.items();
        if self.removal.is_none() || !items.closed {
            items.here.extend(self.items.drain(..));
            return;
        }
        drop(items);
        for (_, item) in &mut self.items {
            let _ = contain(|| item.component.dyn_abort());
            let _ = contain(|| item.component.dyn_release());
        }
    }
}

impl MustClean for Components {}
impl MustClean for &Components {}

impl Component for &Components {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        let mut taken = Taken {
            shared: &self.shared,
            items: self.take_all(),
            ended: false,
            removal: None,
        };
        let (report, cut) = join(taken.clean(cx), self.shared.end_removals(cx)).await;
        taken.ended = true;
        let unclean = report.into_result().err();
        match (unclean, cut) {
            (None, None) => Ok(()),
            (Some(unclean), None) => Err(unclean.into()),
            (None, Some(names)) => Err(format!("cut at the deadline: {names}").into()),
            (Some(unclean), Some(names)) => {
                Err(format!("{unclean}; cut at the deadline: {names}").into())
            }
        }
    }

    fn abort(&mut self) {
        self.each(|component| component.dyn_abort());
        self.shared.cut.cancel();
    }
}

impl Component for Components {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        Component::cleanup(&mut &*self, cx).await
    }

    fn abort(&mut self) {
        Component::abort(&mut &*self);
    }

    fn release(&mut self) {
        if Arc::get_mut(&mut self.shared).is_some() {
            self.each(|component| component.dyn_release());
        }
    }
}

impl fmt::Debug for Components {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.names();
        f.debug_list()
            .entries(names.iter().map(|(_, name)| name))
            .finish()
    }
}

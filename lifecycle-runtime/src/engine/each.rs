//! The cleanup of a container's elements, which run together and have a row each.

use std::borrow::Cow;
use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use futures_util::stream::{FuturesUnordered, StreamExt};

use super::abort_scope::address_of;
use super::resumed::{NestedKind, known_elements, return_unclaimed};
use super::row::{Identity, Row};
use super::running::RunningPlan;
use super::shared::ShutdownShared;
use super::{StepHandle, Timer, component, lock};
use crate::{BoxError, Component, Context, Report, clock};

/// An element of a container during its cleanup.
pub(crate) struct Element<'a, C: ?Sized> {
    pub(crate) name: Cow<'static, str>,
    pub(crate) identity: Option<Identity>,
    /// Whether the element is named by its position in the container.
    pub(crate) is_positional: bool,
    pub(crate) item: &'a mut C,
}

impl Context {
    /// Cleans the elements of a container together, each with its own row in the report, such as `plugins[auth]`.
    /// `names` are in the order of `items`; an item without a name gets its number as its name.
    ///
    /// ```
    /// use lifecycle_runtime::{BoxError, Component, Context};
    ///
    /// struct Shards<T>(Vec<T>);
    ///
    /// impl<T: Component> Component for Shards<T> {
    ///     async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
    ///         let names = (0..self.0.len()).map(|i| format!("shard {i}"));
    ///         cx.each(names, &mut self.0).await
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// A [`ShutdownError`](crate::ShutdownError) that names the elements that are not done.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped half-way and the method is called again, it skips the elements that have ended,
    /// provided that they can be identified wherever they were moved, as tasks can by their id. It cleans all other
    /// elements again, since elements may have been removed, added or reordered meanwhile. Elements that had begun and
    /// are missing now are reported as aborted.
    pub async fn each<'a, N, C>(
        &self,
        names: impl IntoIterator<Item = N, IntoIter: Send> + Send,
        items: impl IntoIterator<Item = &'a mut C, IntoIter: Send> + Send,
    ) -> Result<(), BoxError>
    where
        N: Into<Cow<'static, str>>,
        C: Component + ?Sized + 'a,
    {
        let report = self.each_reported(names, items).await;
        report.into_result().map(drop).map_err(BoxError::from)
    }

    /// Cleans the elements like [`each`](Self::each), and returns the report with their rows.
    pub(crate) async fn each_reported<'a, N, C>(
        &self,
        names: impl IntoIterator<Item = N, IntoIter: Send> + Send,
        items: impl IntoIterator<Item = &'a mut C, IntoIter: Send> + Send,
    ) -> Report
    where
        N: Into<Cow<'static, str>>,
        C: Component + ?Sized + 'a,
    {
        let mut names = names.into_iter();
        let elements = items.into_iter().enumerate().map(|(i, item)| {
            let name = names.next();
            Element {
                identity: item.__identity(),
                is_positional: name.is_none(),
                name: match name {
                    Some(name) => Cow::Owned(format!("[{}]", name.into())),
                    // An element without a name gets its number, since it must be cleaned too.
                    None => Cow::Owned(format!("[{i}]")),
                },
                item,
            }
        });
        self.clean_elements(elements.collect()).await
    }

    /// Cleans these elements together, each with its own row.
    pub(crate) async fn clean_elements<C>(&self, elements: Vec<Element<'_, C>>) -> Report
    where
        C: Component + ?Sized,
    {
        let plan = open_elements(self, &elements);
        let wakers = Mutex::new(Vec::new());
        let mut cleanups: FuturesUnordered<_> = elements
            .into_iter()
            .enumerate()
            .filter(|&(row, _)| !plan.has_ended(row))
            .map(|(row, element)| {
                let (step, wakers) = (StepHandle::new(Arc::clone(&plan), row), &wakers);
                async move {
                    poll_fn(|cx| {
                        lock(wakers).push(cx.waker().clone());
                        Poll::Ready(())
                    })
                    .await;
                    component(step, element.item).await;
                }
            })
            .collect();
        let is_cut = || match self.step() {
            // A hurry cuts the elements only if the step around them is `best_effort`.
            Some(step) => step.cut().is_some(),
            None => plan.shared.forced().is_some(),
        };
        // A timer is created only outside a plan: inside a plan the engine's own timer wakes this task.
        let mut timer = self.step().is_none().then(Timer::new);
        poll_fn(|cx| {
            // The elements are woken here, since `FuturesUnordered` polls only futures that were woken, and a hurry
            // wakes only the outermost plan.
            if plan.shared.is_hurried() {
                lock(&wakers).drain(..).for_each(Waker::wake);
            }
            while let Poll::Ready(ended) = cleanups.poll_next_unpin(cx) {
                if ended.is_none() {
                    return Poll::Ready(());
                }
            }
            let over = match &mut timer {
                Some(timer) => timer.poll(Some(self.hard_deadline()), cx).is_ready(),
                None => clock::now() >= self.hard_deadline(),
            };
            if !over && !is_cut() {
                return Poll::Pending;
            }
            // Each remaining future is polled once more, woken or not, so that its step records that it was cut.
            for cleanup in std::pin::Pin::new(&mut cleanups).iter_pin_mut() {
                let _ = cleanup.poll(cx);
            }
            cleanups.clear();
            Poll::Ready(())
        })
        .await;
        plan.finish().clone()
    }
}

/// Opens a plan with a row for each element. An element that an earlier run cleaned keeps its row, if it has an
/// identity.
fn open_elements<C: ?Sized>(cx: &Context, elements: &[Element<'_, C>]) -> Arc<RunningPlan> {
    let row = |element: &Element<'_, C>| {
        let mut row = Row::new(element.name.clone(), 0);
        if element.identity.is_some() || element.is_positional {
            let cold = row.cold_or_default();
            cold.identity = element.identity;
            cold.is_positional = element.is_positional;
        }
        row
    };
    // The plan that is opened here is the container's own. A plan that is opened later belongs to another component.
    cx.take_own();
    let Some(step) = cx.step() else {
        let shared = ShutdownShared::new(cx.reason().clone(), clock::now());
        let plan = RunningPlan::root("", shared, cx.hard_deadline());
        plan.lay_out_elements(elements.iter().map(row).collect());
        return plan;
    };
    let mut known = known_elements(step.plan(), step.row());
    let rows = elements.iter().map(|element| {
        let earlier = element
            .identity
            .and_then(|identity| known.remove(&identity));
        earlier.unwrap_or_else(|| row(element))
    });
    let rows = rows.collect();
    return_unclaimed(step.plan(), step.row(), known);
    let addresses = elements.iter().map(|element| address_of(&*element.item));
    let kind = NestedKind::Elements;
    let plan = step.open(kind, "", cx.hard_deadline(), 0, addresses.collect());
    plan.lay_out_elements(rows);
    plan
}

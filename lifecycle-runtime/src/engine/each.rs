//! Elements of a container: cleaned together, a row each.

use std::borrow::Cow;
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::Poll;

use futures_util::stream::{FuturesUnordered, StreamExt};

use super::{Run, Seat, Timer, component};
use crate::{BoxError, Component, Context, Report, clock};

impl Context {
    /// Cleans the elements of a container together, each with a row of its own in the report:
    /// `plugins[auth]`. Names come in the order of the items; an item without one has its number.
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
    /// Dropped half-way and called again with the same names, it takes up the elements that have not
    /// ended.
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

    /// [`each`](Self::each), with the rows it made.
    pub(crate) async fn each_reported<'a, N, C>(
        &self,
        names: impl IntoIterator<Item = N, IntoIter: Send> + Send,
        items: impl IntoIterator<Item = &'a mut C, IntoIter: Send> + Send,
    ) -> Report
    where
        N: Into<Cow<'static, str>>,
        C: Component + ?Sized + 'a,
    {
        let items: Vec<_> = items.into_iter().collect();
        let mut names = names.into_iter();
        let names = (0..items.len()).map(|i| match names.next() {
            Some(name) => Cow::Owned(format!("[{}]", name.into())),
            // No element is left out for want of a name.
            None => Cow::Owned(format!("[{i}]")),
        });
        let (live, places) = Run::open_elements(self, names.collect());
        let mut cleanups: FuturesUnordered<_> = items
            .into_iter()
            .zip(places)
            .filter(|&(_, i)| !live.has_ended(i))
            .map(|(item, i)| component(Seat::step(Arc::clone(&live), i), item))
            .collect();
        // Inside a plan the engine wakes it.
        let mut timer = self.seat().is_none().then(Timer::new);
        poll_fn(|cx| {
            while let Poll::Ready(ended) = cleanups.poll_next_unpin(cx) {
                if ended.is_none() {
                    return Poll::Ready(());
                }
            }
            let over = match &mut timer {
                Some(timer) => timer.poll(Some(self.hard_deadline()), cx).is_ready(),
                None => clock::now() >= self.hard_deadline(),
            };
            if !over && live.origin.forced().is_none() {
                return Poll::Pending;
            }
            // Only those that were woken are polled above; at the end every one has to cut itself.
            for cleanup in std::pin::Pin::new(&mut cleanups).iter_pin_mut() {
                let _ = cleanup.poll(cx);
            }
            cleanups.clear();
            Poll::Ready(())
        })
        .await;
        live.finish(clock::now()).clone()
    }
}

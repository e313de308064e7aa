//! Elements of a container: cleaned together, a row each.

use std::borrow::Cow;
use std::future::{Future, poll_fn};
use std::task::Poll;

use futures_util::stream::{FuturesUnordered, StreamExt};

use super::Run;
use super::live::Turn;
use crate::{BoxError, Component, Context, clock};

impl Context {
    /// Cleans the elements of a container together, each with a row of its own in the report:
    /// `plugins[auth]`. Names come in the order of the items.
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
        let names = names.into_iter().map(|name| Cow::Owned(format!("[{}]", name.into())));
        let run = Run::open_elements(self, names);
        let mut cleanups: FuturesUnordered<_> = items
            .into_iter()
            .enumerate()
            .filter(|&(i, _)| run.live.has(i) && run.live.turn(i) != Turn::Ended)
            .map(|(i, item)| run.component(i, item))
            .collect();
        poll_fn(|cx| {
            while let Poll::Ready(ended) = cleanups.poll_next_unpin(cx) {
                if ended.is_none() {
                    return Poll::Ready(());
                }
            }
            if clock::now() < self.hard_deadline() && run.live.origin.forced().is_none() {
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
        run.join(&mut []).await
    }
}

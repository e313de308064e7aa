//! The components of wrappers of one value: `Option`, `Box` and `Arc`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::engine::Identity;
use crate::{BoxError, Component, Context, MustClean, Plan, ResolvedPlan};

impl<T: MustClean> MustClean for Option<T> {}
impl<T: MustClean + ?Sized> MustClean for Box<T> {}
impl<T: ?Sized> MustClean for Arc<T> where for<'a> &'a T: MustClean {}

impl<T: Component> Component for Option<T> {
    const PLAN: Plan = T::PLAN;

    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        match self {
            Some(inside) => inside.cleanup(cx).await,
            None => Ok(()),
        }
    }

    fn abort(&mut self) {
        if let Some(inside) = self {
            inside.abort();
        }
    }

    fn release(&mut self) {
        if let Some(inside) = self {
            inside.release();
        }
    }

    fn __plan(&self) -> ResolvedPlan {
        match self {
            Some(inside) => inside.__plan(),
            None => Self::PLAN.into(),
        }
    }

    fn __is_empty(&self) -> bool {
        self.as_ref().is_none_or(Component::__is_empty)
    }

    fn __is_composite(&self) -> bool {
        self.as_ref().is_some_and(Component::__is_composite)
    }

    fn __identity(&mut self) -> Option<Identity> {
        self.as_mut()?.__identity()
    }
}

impl<T: Component + ?Sized> Component for Box<T> {
    const PLAN: Plan = T::PLAN;

    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        // The future is boxed as a trait object: otherwise the future of a recursive type would contain itself.
        let cleanup: Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send + '_>> =
            Box::pin((**self).cleanup(cx));
        cleanup.await
    }

    fn abort(&mut self) {
        (**self).abort();
    }

    fn release(&mut self) {
        (**self).release();
    }

    fn __plan(&self) -> ResolvedPlan {
        (**self).__plan()
    }

    const __IS_PLAN: bool = T::__IS_PLAN;

    fn __is_empty(&self) -> bool {
        (**self).__is_empty()
    }

    fn __is_composite(&self) -> bool {
        (**self).__is_composite()
    }

    fn __identity(&mut self) -> Option<Identity> {
        (**self).__identity()
    }
}

impl<T: Send + Sync + ?Sized> Component for Arc<T>
where
    for<'a> &'a T: Component,
{
    const PLAN: Plan = <&T as Component>::PLAN;

    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        let mut shared = &**self;
        shared.cleanup(cx).await
    }

    fn abort(&mut self) {
        let mut shared = &**self;
        shared.abort();
    }

    fn release(&mut self) {
        // This uses `get_mut` and not the reference count: `get_mut` succeeds for at most one of the last two owners,
        // and never while a `Weak` could be upgraded.
        if let Some(alone) = Arc::get_mut(self) {
            let mut alone = &*alone;
            alone.release();
        }
    }

    fn __plan(&self) -> ResolvedPlan {
        <&T as Component>::__plan(&&**self)
    }

    fn __is_empty(&self) -> bool {
        <&T as Component>::__is_empty(&&**self)
    }

    fn __is_composite(&self) -> bool {
        <&T as Component>::__is_composite(&&**self)
    }
}

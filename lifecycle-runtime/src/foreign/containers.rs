//! The components of containers. Their elements are cleaned together, with a row each.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Debug;

use crate::derived::plan_of;
use crate::engine::{KnownElements, address_of, contain};
use crate::plan::{PlanStep, resolve};
use crate::{BoxError, Component, Context, MustClean, Plan, ResolvedPlan};

/// The step that stands for all elements in a container's plan, since their number is not known there.
pub(super) const EACH: PlanStep = PlanStep::__new("[…]", 0);

/// Returns the plan of values that are cleaned together. If all values are leaves, the result is a leaf's plan, as they
/// share the field's timeout.
pub(super) const fn together(steps: &'static [PlanStep]) -> Plan {
    let mut i = 0;
    while i < steps.len() {
        if steps[i].nested().is_some() {
            return Plan::together(steps);
        }
        i += 1;
    }
    Plan::of_leaves()
}

/// Builds the resolved plan of `steps`. `insides` holds the plans of the values, with the index of each value's step.
pub(super) fn resolve_together(
    steps: &'static [PlanStep],
    insides: Vec<(usize, ResolvedPlan)>,
) -> ResolvedPlan {
    let longest = insides.iter().filter_map(|(_, plan)| plan.budget()).max();
    match longest {
        Some(longest) => resolve(
            Plan::together(steps),
            insides,
            Some(&mut |set| set(None, longest)),
        ),
        None => together(steps).into(),
    }
}

/// Aborts or releases every element that has not ended. If the call for one element panics, calls `f` for the other
/// elements first, and then resumes that panic.
fn on_each<'a, T>(elements: impl IntoIterator<Item = &'a mut T>, f: fn(&mut T))
where
    T: Component + ?Sized + 'a,
{
    let known = KnownElements::of_scope();
    all(elements, |element| {
        known.element(address_of(element), || f(element))
    });
}

/// Runs `f` on every item. If the call for one item panics, calls `f` for the other items first, and then resumes that
/// panic.
pub(super) fn all<T>(items: impl IntoIterator<Item = T>, mut f: impl FnMut(T)) {
    let mut panicked = None;
    for item in items {
        if let Err(message) = contain(|| f(item)) {
            panicked.get_or_insert(message);
        }
    }
    if let Some(message) = panicked {
        std::panic::resume_unwind(Box::new(message));
    }
}

macro_rules! container {
    (
        [$($generics:tt)*] $container:ty, of $element:ty,
        $values:ident, $values_mut:ident, named |$this:ident| $names:expr
    ) => {
        impl<$($generics)*> Component for $container {
            const PLAN: Plan = together(const { &[EACH.__nested(plan_of::<$element>())] });

            async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
                let $this = &*self;
                // The names are collected, as borrowed keys may not be `Send`.
                let names: Vec<String> = $names.collect();
                cx.each(names, self.$values_mut()).await
            }

            fn abort(&mut self) {
                on_each(self.$values_mut(), Component::abort);
            }

            fn release(&mut self) {
                on_each(self.$values_mut(), Component::release);
            }

            fn __plan(&self) -> ResolvedPlan {
                // The one row stands for all elements, so the longest of their plans gives its time limit.
                let longest = self.$values().map(Component::__plan).max_by_key(ResolvedPlan::budget);
                let rows = const { &[EACH.__nested(plan_of::<$element>())] };
                resolve_together(rows, longest.map(|plan| (0, plan)).into_iter().collect())
            }
        }
    };
}

container!([T: Component] [T], of T, iter, iter_mut, named |_items| std::iter::empty());
container!([T: Component] VecDeque<T>, of T, iter, iter_mut, named |_items| std::iter::empty());
container!(
    [K: Debug + Send, V: Component, S: Send] HashMap<K, V, S>, of V,
    values, values_mut, named |map| map.keys().map(name)
);
container!(
    [K: Debug + Send, V: Component] BTreeMap<K, V>, of V,
    values, values_mut, named |map| map.keys().map(name)
);

/// Returns a key as reports show it: `plugins[auth]`, not `plugins["auth"]`.
fn name<K: Debug>(key: &K) -> String {
    let text = format!("{key:?}");
    match text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
    {
        Some(bare) => bare.to_owned(),
        None => text,
    }
}

macro_rules! as_slice {
    ([$($generics:tt)*] $container:ty) => {
        impl<$($generics)*> Component for $container {
            const PLAN: Plan = <[T]>::PLAN;

            fn cleanup(
                &mut self,
                cx: &Context,
            ) -> impl Future<Output = Result<(), BoxError>> + Send {
                self.as_mut_slice().cleanup(cx)
            }

            fn abort(&mut self) {
                self.as_mut_slice().abort();
            }

            fn release(&mut self) {
                self.as_mut_slice().release();
            }

            fn __plan(&self) -> ResolvedPlan {
                self.as_slice().__plan()
            }
        }
    };
}

impl<T: MustClean> MustClean for [T] {}
impl<T: MustClean, const N: usize> MustClean for [T; N] {}
impl<T: MustClean> MustClean for Vec<T> {}
impl<T: MustClean> MustClean for VecDeque<T> {}
impl<K, V: MustClean, S> MustClean for HashMap<K, V, S> {}
impl<K, V: MustClean> MustClean for BTreeMap<K, V> {}

as_slice!([T: Component] Vec<T>);
as_slice!([T: Component, const N: usize] [T; N]);

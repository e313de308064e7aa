//! The plan of a value, put together field by field.

use crate::engine::SetTimeout;
use crate::{Component, Plan, ResolvedPlan};

/// The plans of a value's fields.
#[derive(Debug)]
pub struct Fields(Vec<(usize, ResolvedPlan)>);

impl Fields {
    /// None yet. Unlike `default` it is found without a prelude.
    #[allow(clippy::new_without_default)] // nothing else makes one
    pub fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds the plan of step `i`, of a field that is a component.
    pub fn component<C: Component + ?Sized>(&mut self, i: usize, field: &C) {
        self.0.push((i, field.__plan()));
    }

    /// The plan of a value, with the plans of its fields and, where `tell` tells some, the timeouts that only it knows.
    pub fn of(
        self,
        plan: &Plan,
        tell: Option<&mut dyn FnMut(&mut SetTimeout<'_>)>,
    ) -> ResolvedPlan {
        crate::plan::resolve(*plan, self.0, tell)
    }
}

//! The plan of a value, put together field by field.

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

    /// The plan of `this`, with the timeouts that only it knows and the plans of its fields.
    pub fn of<C: Component + ?Sized>(self, this: &C, plan: &Plan) -> ResolvedPlan {
        crate::plan::resolve(|set| this.__times(set), *plan, self.0)
    }
}

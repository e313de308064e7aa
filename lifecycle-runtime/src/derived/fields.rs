//! The list with which generated code collects the plan of a value, field by field.

use crate::engine::SetTimeout;
use crate::{Component, Plan, ResolvedPlan};

/// The plans of a value's fields, each with the index of the field's step.
#[derive(Debug)]
pub struct Fields(Vec<(usize, ResolvedPlan)>);

impl Fields {
    /// Creates an empty list. This is a method of its own, since `default` is not found in code without a prelude.
    #[allow(clippy::new_without_default)] // nothing else makes one
    pub fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds the plan of step `i`, whose field is a component.
    pub fn component<C: Component + ?Sized>(&mut self, i: usize, field: &C) {
        self.0.push((i, field.__plan()));
    }

    /// Returns the plan of the value. It contains the plans of the value's fields, and the run-time timeouts that
    /// `collect_timeouts` reports.
    pub fn of(
        self,
        plan: &Plan,
        collect_timeouts: Option<&mut dyn FnMut(&mut SetTimeout<'_>)>,
    ) -> ResolvedPlan {
        crate::plan::resolve(*plan, self.0, collect_timeouts)
    }
}

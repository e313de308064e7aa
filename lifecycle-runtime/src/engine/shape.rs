//! The shape of the nested plans that a step began to run. When a dropped shutdown is resumed, it tells whether the step
//! has the same nested plans again.
//!
//! Some parts of a struct, and some elements of a container, cannot be told from others of their kind. They are counted,
//! and their order does not matter. If the resumed step has fewer of them than had begun and not ended, one counts as
//! lost.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use super::resumed::{NestedKind, NestedPlan};
use super::row::{Identity, Row};
use super::running::RunningPlan;

/// The shape of a plan that a step opened: the data that a comparison with a later run needs.
#[derive(Clone)]
pub(super) struct Shape {
    /// The address of the running plan. A struct with a `ShutdownState` (an owner) keeps its plan in the heap, so its id
    /// stays the same when the struct is moved.
    id: usize,
    component: &'static str,
    kind: NestedKind,
    ended: bool,
    rows: Arc<[RowShape]>,
}

/// The shape of one row of a plan that a step opened.
pub(super) struct RowShape {
    name: Cow<'static, str>,
    is_positional: bool,
    identity: Option<Identity>,
    /// Whether the row counts as lost if it is missing in a later run: its step has not ended, and is not
    /// `best_effort`.
    in_flight: bool,
    nested: Vec<Shape>,
}

impl Shape {
    /// Returns the shapes of the plans that a row's step has opened in this run.
    pub(super) fn of_row(row: &Row) -> Vec<Self> {
        let nested = row.nested.iter().filter(|nested| !nested.is_earlier);
        nested.map(Self::of).collect()
    }

    /// Returns the shapes of the plans in `nested`.
    pub(super) fn of_nested(nested: &[NestedPlan]) -> Vec<Self> {
        nested.iter().map(Self::of).collect()
    }

    fn of(nested: &NestedPlan) -> Self {
        Self {
            id: id(&nested.plan),
            component: nested.plan.component,
            kind: nested.kind,
            ended: nested.plan.report().is_some(),
            rows: match nested.kind {
                // The rows of an owner's plan are not compared here, since the owner keeps its plan from run to run.
                NestedKind::Owner => Arc::default(),
                NestedKind::Own | NestedKind::Anonymous | NestedKind::Elements => {
                    nested.plan.shape()
                }
            },
        }
    }

    /// Returns whether a resumed step continues this plan, instead of beginning it again: the plan of an owner, or the
    /// plan of the step's own field.
    pub(super) fn is_resumed(&self) -> bool {
        matches!(self.kind, NestedKind::Own | NestedKind::Owner)
    }
}

impl RowShape {
    pub(super) fn of(row: &Row) -> Self {
        Self {
            name: row.step.name.clone(),
            is_positional: row.is_positional(),
            identity: row.identity(),
            in_flight: !row.ended && !row.step.best_effort,
            nested: Shape::of_row(row),
        }
    }
}

/// Returns an id that tells the plans of different owners apart.
pub(super) fn id(plan: &Arc<RunningPlan>) -> usize {
    Arc::as_ptr(plan) as usize
}

/// Returns whether an owner's plan is among `shapes`, or inside them.
pub(super) fn has_owner(shapes: &[Shape], id: usize) -> bool {
    shapes.iter().any(|shape| {
        let is_it = shape.kind == NestedKind::Owner && shape.id == id;
        is_it || shape.rows.iter().any(|row| has_owner(&row.nested, id))
    })
}

/// Returns whether a component of the `earlier` run had not ended and is missing `now`.
pub(super) fn is_missing(earlier: &[&Shape], now: &[&Shape]) -> bool {
    let unfinished = |kinds: &[NestedKind]| -> Vec<&Shape> {
        let earlier = earlier.iter().copied();
        let unfinished = earlier.filter(|shape| !shape.ended && kinds.contains(&shape.kind));
        unfinished.collect()
    };
    let owners = unfinished(&[NestedKind::Owner]);
    if owners
        .iter()
        .any(|owner| !now.iter().any(|now| now.id == owner.id))
    {
        return true;
    }
    let elements = unfinished(&[NestedKind::Elements]);
    if !elements.is_empty() {
        let now = now.iter().copied();
        let now: Vec<_> = now.filter(|now| now.kind == NestedKind::Elements).collect();
        if are_elements_missing(&elements, &now) {
            return true;
        }
    }
    let parts = unfinished(&[NestedKind::Own, NestedKind::Anonymous]);
    let names: HashSet<_> = parts.iter().map(|part| part.component).collect();
    names
        .into_iter()
        .any(|name| are_parts_missing(&parts, now, name))
}

/// Returns whether there are fewer parts called `name` now than in `parts`, or something is missing inside them.
fn are_parts_missing(parts: &[&Shape], now: &[&Shape], name: &str) -> bool {
    let called = |shapes: &[&Shape]| -> Vec<RowsOf> {
        let parts = shapes.iter().filter(|shape| {
            let is_part = matches!(shape.kind, NestedKind::Own | NestedKind::Anonymous);
            is_part && shape.component == name
        });
        parts.map(|part| Arc::clone(&part.rows)).collect()
    };
    let (parts, now) = (called(parts), called(now));
    if now.len() < parts.len() {
        return true;
    }
    let longest = parts.iter().map(|rows| rows.len()).max();
    (0..longest.unwrap_or(0)).any(|i| {
        let earlier = parts.iter().filter_map(|rows| rows.get(i));
        let now = now.iter().filter_map(|rows| rows.get(i));
        is_missing_inside(earlier, now)
    })
}

type RowsOf = Arc<[RowShape]>;

fn are_elements_missing(earlier: &[&Shape], now: &[&Shape]) -> bool {
    let earlier = || earlier.iter().flat_map(|shape| shape.rows.iter());
    let now = || now.iter().flat_map(|shape| shape.rows.iter());
    let identities: HashSet<_> = now().filter_map(|row| row.identity).collect();
    let anonymous = |row: &&RowShape| row.identity.is_none();
    let positional = |row: &&RowShape| anonymous(row) && row.is_positional;
    let names: HashSet<_> = now()
        .filter(|row| anonymous(row) && !row.is_positional)
        .map(|row| &row.name)
        .collect();
    let is_gone = |row: &RowShape| match row.identity {
        Some(identity) => !identities.contains(&identity),
        None => !row.is_positional && !names.contains(&row.name),
    };
    let fewer = earlier()
        .filter(positional)
        .count()
        .saturating_sub(now().filter(positional).count());
    let in_flight = || earlier().filter(|row| row.in_flight);
    (fewer > 0 && in_flight().any(|row| positional(&row)))
        || in_flight().any(is_gone)
        || is_missing_inside(earlier(), now())
}

/// Returns whether something is missing inside those `earlier` rows that had not ended.
fn is_missing_inside<'a>(
    earlier: impl Iterator<Item = &'a RowShape>,
    now: impl Iterator<Item = &'a RowShape>,
) -> bool {
    let earlier: Vec<_> = earlier
        .filter(|row| row.in_flight)
        .flat_map(|row| &row.nested)
        .collect();
    !earlier.is_empty()
        && is_missing(
            &earlier,
            &now.flat_map(|row| &row.nested).collect::<Vec<_>>(),
        )
}

//! The code that decides about nested plans and elements when a step is resumed after its future was dropped.
//!
//! What has ended is recorded for a component, never for its position or name. A component is recognised if it is the
//! field itself ([`Component::__IS_PLAN`](crate::Component)), if it carries its own state (an owner), or if it has an
//! [`Identity`]. Every other component is cleaned again. The report loses nothing by that: it keeps rows that failed,
//! and reports as aborted each component that began and is missing now.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::row::{Identity, Row};
use super::running::RunningPlan;
use super::shape::{Shape, has_owner, id, is_missing};
use crate::report::{Outcome, Step};

/// A plan that the component of a step opened during its cleanup.
#[derive(Clone)]
pub(super) struct NestedPlan {
    pub(super) plan: Arc<RunningPlan>,
    pub(super) kind: NestedKind,
    /// The address of the plan's component during this run. It is 0 if the address identifies nothing.
    pub(super) address: usize,
    /// The addresses of a container's elements, one for each row.
    pub(super) elements: Arc<[usize]>,
    /// Whether an earlier run of the step opened the plan, and the current run has not opened it again.
    pub(super) is_earlier: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum NestedKind {
    /// The plan of the component that is the step's field itself.
    Own,
    /// The plan of an owner, which stores the plan in its own state.
    Owner,
    /// The plan of a part that cannot be told from other parts of its type.
    Anonymous,
    /// The plan with a row for each element of a container.
    Elements,
}

/// Prepares a step for another run: drops its closures, and marks its nested plans as opened by an earlier run.
pub(super) fn begin_again(plan: &RunningPlan, row: usize) {
    let lost = settle(plan, row, false);
    let foreign = {
        let mut rows = plan.rows();
        let row = &mut rows.list[row];
        let mut now = Shape::of_row(row);
        // The plans of owners and of the field itself are left out, since they are continued and compare their own
        // rows.
        now.retain(|shape| !shape.is_resumed());
        if let Some(cold) = row.cold_mut() {
            cold.begun
                .retain(|begun| is_missing(&refs(begun), &refs(&now)));
        }
        if !now.is_empty() {
            row.cold_or_default().begun.push(now);
        }
        if lost {
            row.cold_or_default().lost_parts = true;
        }
        if let Some(cold) = row.cold_mut() {
            cold.lost |= std::mem::take(&mut cold.took);
            cold.nothing = None;
        }
        for nested in &mut row.nested {
            nested.is_earlier = true;
        }
        row.take_foreign()
    };
    drop(foreign);
}

/// Decides what the report keeps of the plans that earlier runs of this step opened, when the step ends. Returns
/// whether something that the step was cleaning is missing.
pub(super) fn end(plan: &RunningPlan, row: usize) -> bool {
    let lost = settle(plan, row, true);
    let mut rows = plan.rows();
    let row = &mut rows.list[row];
    let now = Shape::of_row(row);
    let begun = row.cold_mut().map(|cold| std::mem::take(&mut cold.begun));
    let mut begun = begun.unwrap_or_default().into_iter();
    lost || begun.any(|begun| is_missing(&refs(&begun), &refs(&now)))
}

fn refs(shapes: &[Shape]) -> Vec<&Shape> {
    shapes.iter().collect()
}

/// Replaces the plans that an earlier run opened by those of the current run, and keeps the rows that the report must
/// not lose. If the step `ends`, no earlier plan stays open. Returns whether something is missing.
fn settle(plan: &RunningPlan, row: usize, ends: bool) -> bool {
    let nested = {
        let mut rows = plan.rows();
        let nested = std::mem::take(&mut rows.list[row].nested);
        if nested.is_empty() {
            return false;
        }
        nested
    };
    let (earlier, current): (Vec<_>, Vec<_>) =
        nested.into_iter().partition(|nested| nested.is_earlier);
    let mut settled = Settled {
        now: Shape::of_nested(&current),
        ..Settled::default()
    };
    let mut open = Vec::new();
    let mut reopened: Vec<_> = current.iter().map(|nested| nested.plan.component).collect();
    let (earlier_elements, earlier): (Vec<_>, Vec<_>) = earlier
        .into_iter()
        .partition(|nested| nested.kind == NestedKind::Elements);
    for nested in earlier {
        if let Some(report) = nested.plan.report() {
            settled.keep_failed(report.steps().to_vec());
            continue;
        }
        let again = reopened
            .iter()
            .position(|&name| name == nested.plan.component);
        match again {
            Some(at) => {
                reopened.swap_remove(at);
                settled.keep_inside(&nested);
            }
            None if ends => settled.lose(&nested),
            None => open.push(nested),
        }
    }
    let now_elements = current
        .iter()
        .filter(|nested| nested.kind == NestedKind::Elements);
    if ends || now_elements.clone().next().is_some() {
        let mut now = Elements::default();
        now_elements.for_each(|nested| now.add(&nested.plan));
        settled.elements(earlier_elements, &now);
    } else {
        open.extend(earlier_elements);
    }
    open.extend(current);
    let Settled { kept, lost, .. } = settled;
    let mut rows = plan.rows();
    rows.list[row].nested = open;
    if !kept.is_empty() {
        rows.list[row].cold_or_default().kept.extend(kept);
    }
    lost
}

/// The elements without an [`Identity`] that the current run cleans.
#[derive(Default)]
struct Elements {
    /// The number of elements that are named by their position.
    positional: usize,
    /// The names of the elements that are not named by their position.
    names: HashSet<Cow<'static, str>>,
}

impl Elements {
    fn add(&mut self, plan: &RunningPlan) {
        for row in &plan.rows().list {
            if row.identity().is_some() {
                continue;
            }
            if row.is_positional() {
                self.positional += 1;
            } else {
                self.names.insert(row.step.name.clone());
            }
        }
        // The rows of a plan that has ended became its report. The report does not tell positional names from other
        // names, so each step counts as both kinds.
        for step in plan.report().iter().flat_map(|report| report.steps()) {
            self.names.insert(step.name.clone());
            self.positional += 1;
        }
    }
}

/// The rows that the report keeps from earlier runs, and whether something is missing.
#[derive(Default)]
struct Settled {
    /// The plans that the current run has opened.
    now: Vec<Shape>,
    kept: Vec<Step>,
    lost: bool,
}

impl Settled {
    /// Keeps the rows of `steps` that failed. The components of the other rows are cleaned again, or were removed after
    /// they were clean.
    fn keep_failed(&mut self, steps: Vec<Step>) {
        self.kept
            .extend(steps.into_iter().filter(|step| !step.is_clean()));
    }

    /// Keeps the failed rows inside the earlier plan `nested`, which the current run opened again.
    fn keep_inside(&mut self, nested: &NestedPlan) {
        if nested.kind == NestedKind::Owner {
            // The owner's rows are in its own plan, which continues if the owner still exists.
            if !has_owner(&self.now, id(&nested.plan)) {
                self.keep_failed(nested.plan.copy_steps(&gone()));
            }
            return;
        }
        let rows = std::mem::take(&mut nested.plan.rows().list);
        for row in rows {
            self.keep_inside_row(row, &nested.plan);
        }
    }

    fn keep_inside_row(&mut self, row: Row, plan: &RunningPlan) {
        if row.ended {
            self.keep_failed(vec![row.into_step(plan.shared.began, None)]);
            return;
        }
        // The step had begun, and is not resumed, since its plan was opened anew. So a value that the step moved out of
        // its field, or left for its next run, is lost.
        if row
            .cold()
            .is_some_and(|cold| cold.took || cold.left.is_some())
        {
            self.keep_gone(row, plan);
            return;
        }
        let mut inside = Self {
            now: std::mem::take(&mut self.now),
            ..Self::default()
        };
        for nested in &row.nested {
            match nested.plan.report() {
                // The owner still exists, so its own plan reports its rows.
                Some(_)
                    if nested.kind == NestedKind::Owner
                        && has_owner(&inside.now, id(&nested.plan)) => {}
                Some(report) => inside.keep_failed(report.steps().to_vec()),
                None => inside.keep_inside(nested),
            }
        }
        self.now = std::mem::take(&mut inside.now);
        self.lost |= inside.lost && !row.step.best_effort;
        // If every kept row is clean, for instance because it was `best_effort`, the row around them stays clean, as
        // after a single run.
        if inside.kept.iter().all(Step::is_clean) {
            return;
        }
        // A row is added around the kept rows, so that their path shows their field.
        let mut around = row.into_step(plan.shared.began, None);
        around.steps = inside.kept;
        around.why = Some(CLEANED_AGAIN.into());
        self.kept.push(around);
    }

    /// Records that the component of a plan had begun and is missing now, and keeps its rows.
    fn lose(&mut self, nested: &NestedPlan) {
        self.lost = true;
        let steps = match nested.kind {
            NestedKind::Owner => nested.plan.copy_steps(&gone()),
            _ => nested.plan.take_steps(&gone()),
        };
        self.kept.extend(steps);
    }

    /// Records which elements of `earlier` had begun and are missing `now`.
    fn elements(&mut self, earlier: Vec<NestedPlan>, now: &Elements) {
        let (mut then, mut unfinished) = (0_usize, 0);
        for nested in earlier {
            let rows = std::mem::take(&mut nested.plan.rows().list);
            for row in rows {
                let is_known = row.identity().is_some();
                if !is_known && row.is_positional() {
                    then += 1;
                    unfinished += usize::from(!row.ended);
                    self.keep_inside_row(row, &nested.plan);
                } else if is_known || !now.names.contains(&row.step.name) {
                    self.keep_gone(row, &nested.plan);
                } else {
                    self.keep_inside_row(row, &nested.plan);
                }
            }
        }
        // Which elements were removed is not known. The code assumes the worst case: that they had not ended.
        let gone = unfinished.min(then.saturating_sub(now.positional));
        if gone > 0 {
            self.lost = true;
            let mut step = Row::new("[removed]".into(), 0).step;
            step.outcome = Outcome::Aborted;
            step.why = Some(match gone {
                1 => "an element was removed before its cleanup had ended".into(),
                gone => {
                    format!("{gone} elements were removed before their cleanup had ended").into()
                }
            });
            self.kept.push(step);
        }
    }

    /// Keeps the row of a component that is missing now. The row keeps its outcome, or is aborted if it has not ended.
    fn keep_gone(&mut self, row: Row, plan: &RunningPlan) {
        self.lost |= !row.ended && !row.step.best_effort;
        self.kept
            .push(row.into_step(plan.shared.began, Some(&gone())));
    }
}

/// The reason that a row shows for an earlier run whose future was dropped. Rows of that run are inside this row.
const CLEANED_AGAIN: &str = "its future was dropped before it had ended; it was cleaned again";

/// Creates an aborted step. Rows that have not ended take their outcome from it, as their components are missing.
fn gone() -> Step {
    let mut above = Row::new(Cow::Borrowed(""), 0).step;
    above.outcome = Outcome::Aborted;
    above.why = Some(GONE.into());
    above
}

/// The reason in the row of a component that had begun and is missing now.
const GONE: &str = "it had begun, and was gone when the shutdown was resumed";

/// Takes the rows of the elements with an identity that an earlier run of the same step cleaned.
pub(super) fn known_elements(plan: &RunningPlan, row: usize) -> HashMap<Identity, Row> {
    let earlier: Vec<_> = {
        let rows = plan.rows();
        let nested = rows.list[row].nested.iter();
        nested
            .filter(|nested| nested.is_earlier && nested.kind == NestedKind::Elements)
            .map(|nested| Arc::clone(&nested.plan))
            .collect()
    };
    let mut known = HashMap::new();
    for plan in earlier {
        let mut rows = plan.rows();
        let list = std::mem::take(&mut rows.list);
        for row in list {
            match row.identity() {
                Some(identity) => drop(known.insert(identity, row)),
                None => rows.list.push(row),
            }
        }
    }
    known
}

/// Gives back rows from [`known_elements`] whose elements the current run does not have. What becomes of the rows is
/// decided when the step ends.
pub(super) fn return_unclaimed(plan: &RunningPlan, row: usize, unclaimed: HashMap<Identity, Row>) {
    if unclaimed.is_empty() {
        return;
    }
    let rows = plan.rows();
    let mut nested = rows.list[row].nested.iter();
    let earlier = nested.find(|nested| nested.is_earlier && nested.kind == NestedKind::Elements);
    if let Some(earlier) = earlier {
        earlier.plan.rows().list.extend(unclaimed.into_values());
    }
}

//! The fate of nested plans and elements when a step is resumed after its future was dropped.
//!
//! Progress belongs to a component, never to its position or name. A component is recognised if it is the field
//! itself ([`Component::__IS_PLAN`](crate::Component)), if it carries its own state (an owner), or if it has an
//! [`Identity`]. Everything else is cleaned again. The report loses nothing by that: it keeps rows that failed, and
//! reports as aborted what began and is not there any more.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::row::{Identity, Row};
use super::running::RunningPlan;
use super::shape::{Shape, has_owner, id, is_missing};
use crate::report::{Outcome, Step};

/// A plan that a step's component opened.
#[derive(Clone)]
pub(super) struct NestedPlan {
    pub(super) plan: Arc<RunningPlan>,
    pub(super) kind: NestedKind,
    /// The address of the plan's component during this run. 0 if the address identifies nothing.
    pub(super) address: usize,
    /// The addresses of a container's elements, one for each row.
    pub(super) elements: Arc<[usize]>,
    /// Whether an earlier run opened the plan, and the current one has not.
    pub(super) is_earlier: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum NestedKind {
    /// The plan of the very component that the step cleans.
    Own,
    /// The plan of an owner, which stores it in its state.
    Owner,
    /// The plan of a part that cannot be told from other parts of its type.
    Anonymous,
    /// The elements of a container.
    Elements,
}

/// Prepares a step for another run: forgets its descriptions, and marks its nested plans as opened by an earlier run.
pub(super) fn begin_again(plan: &RunningPlan, row: usize) {
    let lost = settle(plan, row, false);
    let foreign = {
        let mut rows = plan.rows();
        let row = &mut rows.list[row];
        let mut now = Shape::of_row(row);
        // Owners and the component's own plan make this comparison themselves.
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

/// Settles the plans that earlier runs of an ending step left. Returns whether something that the step was cleaning
/// was lost.
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

/// Replaces the plans that an earlier run opened by those of the current run. If the step `ends`, no earlier plan
/// stays open.
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

/// The elements without identity that a run cleans.
#[derive(Default)]
struct Elements {
    /// The number of elements named by their position.
    positional: usize,
    /// The names of the others.
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
        // An ended plan's rows have become its report, which does not tell the two kinds apart.
        for step in plan.report().iter().flat_map(|report| report.steps()) {
            self.names.insert(step.name.clone());
            self.positional += 1;
        }
    }
}

/// The rows kept from earlier runs, and whether something was lost.
#[derive(Default)]
struct Settled {
    /// The plans that the current run has opened.
    now: Vec<Shape>,
    kept: Vec<Step>,
    lost: bool,
}

impl Settled {
    /// Keeps the rows that failed. The others are being cleaned again, or their components are gone in order.
    fn keep_failed(&mut self, steps: Vec<Step>) {
        self.kept
            .extend(steps.into_iter().filter(|step| !step.is_clean()));
    }

    /// Keeps the failed rows inside a plan that was opened again.
    fn keep_inside(&mut self, nested: &NestedPlan) {
        if nested.kind == NestedKind::Owner {
            // The owner's rows are in its own plan, which goes on if the owner is still there.
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
        // The step began, and could not be resumed: otherwise its plan would not have been opened again.
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
                // The owner reports itself again.
                Some(_)
                    if nested.kind == NestedKind::Owner
                        && has_owner(&inside.now, id(&nested.plan)) => {}
                Some(report) => inside.keep_failed(report.steps().to_vec()),
                None => inside.keep_inside(nested),
            }
        }
        self.now = std::mem::take(&mut inside.now);
        self.lost |= inside.lost && !row.step.best_effort;
        // Rows that were `best_effort` leave the row around them as clean as a single run would have.
        if inside.kept.iter().all(Step::is_clean) {
            return;
        }
        // The row around the kept rows gives them the path of their field.
        let mut around = row.into_step(plan.shared.began, None);
        around.steps = inside.kept;
        around.why = Some(CLEANED_AGAIN.into());
        self.kept.push(around);
    }

    /// Records as lost a plan that had begun and is not there any more.
    fn lose(&mut self, nested: &NestedPlan) {
        self.lost = true;
        let steps = match nested.kind {
            NestedKind::Owner => nested.plan.copy_steps(&gone()),
            _ => nested.plan.take_steps(&gone()),
        };
        self.kept.extend(steps);
    }

    /// Records as lost the elements that had begun and are not there any more.
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
        // Which elements were removed is not known. At worst it was those that had not ended.
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

    /// Keeps the row of an element that is not there any more: with its outcome, or as aborted if it had none.
    fn keep_gone(&mut self, row: Row, plan: &RunningPlan) {
        self.lost |= !row.ended && !row.step.best_effort;
        self.kept
            .push(row.into_step(plan.shared.began, Some(&gone())));
    }
}

/// The reason in the row of an aborted earlier run, inside which other rows are kept.
const CLEANED_AGAIN: &str = "its future was dropped before it had ended; it was cleaned again";

/// Creates the step that stands around what had begun and is not there any more.
fn gone() -> Step {
    let mut above = Row::new(Cow::Borrowed(""), 0).step;
    above.outcome = Outcome::Aborted;
    above.why = Some(GONE.into());
    above
}

/// The reason in the row of something that had begun and is gone.
const GONE: &str = "it had begun, and was gone when the shutdown was resumed";

/// Takes the rows of elements that an earlier run of the same step cleaned, by identity.
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

/// Returns the rows of elements that are not there any more. They are settled when the step ends.
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

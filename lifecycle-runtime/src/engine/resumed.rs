//! What becomes of nested plans and elements when a step is taken up again after its future was dropped.
//!
//! Progress belongs to a component, never to its place or name. It is known where the component is the field itself
//! ([`Component::__IS_PLAN`](crate::Component)), where it carries its own state (owners), and where it has an
//! [`Identity`]. Everything else is cleaned anew. The report loses nothing by that: rows that had failed are kept, and
//! what had begun and is not there any more is told as aborted.

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
    /// Where its component lies during this run; 0 if that says nothing.
    pub(super) address: usize,
    /// Where the elements of a container lie, row by row.
    pub(super) elements: Arc<[usize]>,
    /// An earlier run opened it, and this one has not.
    pub(super) is_earlier: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum NestedKind {
    /// The plan of the very component that the step cleans.
    Own,
    /// The plan of an owner, which remembers it.
    Owner,
    /// The plan of a part that cannot be told from others of its type.
    Anonymous,
    /// The elements of a container.
    Elements,
}

/// Prepares a step for another run: what it said is not true of this one, and what it opened is of an earlier one.
pub(super) fn begin_again(plan: &RunningPlan, row: usize) {
    let lost = settle(plan, row, false);
    let foreign = {
        let mut rows = plan.rows();
        let row = &mut rows.list[row];
        let mut now = Shape::of_row(row);
        // What knows itself again compares itself.
        now.retain(|shape| !shape.is_resumed());
        if let Some(cold) = row.cold_mut() {
            cold.begun
                .retain(|begun| is_missing(&each(begun), &each(&now)));
        }
        if !now.is_empty() {
            row.warm().begun.push(now);
        }
        if lost {
            row.warm().lost_parts = true;
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

/// Settles what earlier runs left of a step that ends now. Returns whether something it was cleaning was lost.
pub(super) fn end(plan: &RunningPlan, row: usize) -> bool {
    let lost = settle(plan, row, true);
    let mut rows = plan.rows();
    let row = &mut rows.list[row];
    let now = Shape::of_row(row);
    let begun = row.cold_mut().map(|cold| std::mem::take(&mut cold.begun));
    let mut begun = begun.unwrap_or_default().into_iter();
    lost || begun.any(|begun| is_missing(&each(&begun), &each(&now)))
}

fn each(shapes: &[Shape]) -> Vec<&Shape> {
    shapes.iter().collect()
}

/// Replaces what an earlier run opened by what the later one did. Where the step `ends`, nothing is left open.
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
        rows.list[row].warm().kept.extend(kept);
    }
    lost
}

/// The elements without identity that a run cleans.
#[derive(Default)]
struct Elements {
    /// How many are named by their position.
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
        // Once it has ended, its rows are the report's.
        for step in plan.report().iter().flat_map(|report| report.steps()) {
            self.names.insert(step.name.clone());
            self.positional += 1;
        }
    }
}

/// What is kept of earlier runs, and whether something was lost.
#[derive(Default)]
struct Settled {
    /// What the later run has opened.
    now: Vec<Shape>,
    kept: Vec<Step>,
    lost: bool,
}

impl Settled {
    /// Keeps the rows that had failed. Those that went well are cleaned anew, or were let go of.
    fn keep_failed(&mut self, steps: Vec<Step>) {
        self.kept
            .extend(steps.into_iter().filter(|step| !step.is_clean()));
    }

    /// Keeps what had failed inside a plan that was opened anew.
    fn keep_inside(&mut self, nested: &NestedPlan) {
        if nested.kind == NestedKind::Owner {
            // Its rows are in its own plan, which goes on, if it is still there.
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
        // It ran once: its plan would not be opened anew if it had been taken up.
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
                // An owner tells of itself again.
                Some(_)
                    if nested.kind == NestedKind::Owner
                        && has_owner(&inside.now, id(&nested.plan)) => {}
                Some(report) => inside.keep_failed(report.steps().to_vec()),
                None => inside.keep_inside(nested),
            }
        }
        self.now = std::mem::take(&mut inside.now);
        self.lost |= inside.lost && !row.step.best_effort;
        // What was `best_effort` leaves a row around it as clean as it would have been in one run.
        if inside.kept.iter().all(Step::is_clean) {
            return;
        }
        // Around what is kept, so that its path stays the one of its field.
        let mut around = row.into_step(plan.shared.began, None);
        around.steps = inside.kept;
        around.why = Some(ANEW.into());
        self.kept.push(around);
    }

    /// Tells of a plan that had begun and is not there any more.
    fn lose(&mut self, nested: &NestedPlan) {
        self.lost = true;
        let steps = match nested.kind {
            NestedKind::Owner => nested.plan.copy_steps(&gone()),
            _ => nested.plan.take_steps(&gone()),
        };
        self.kept.extend(steps);
    }

    /// Tells of the elements that had begun and are not there any more.
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
        // Which of them went cannot be known: at worst those that had not ended.
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

    /// Keeps the row of an element that is not there any more: how it ended, or that it did not.
    fn keep_gone(&mut self, row: Row, plan: &RunningPlan) {
        self.lost |= !row.ended && !row.step.best_effort;
        self.kept
            .push(row.into_step(plan.shared.began, Some(&gone())));
    }
}

/// Why an earlier run of a step is aborted, of which something is kept.
const ANEW: &str = "its future was dropped before it had ended; it was cleaned anew";

/// The step around what had begun and is not there any more.
fn gone() -> Step {
    let mut above = Row::new(Cow::Borrowed(""), 0).step;
    above.outcome = Outcome::Aborted;
    above.why = Some(GONE.into());
    above
}

/// Why something that had begun is aborted.
const GONE: &str = "it had begun, and was gone when the shutdown was taken up again";

/// The rows of elements that an earlier run of the same step cleaned, by their identity.
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

/// Gives back the rows of elements that are not there any more, to be settled when the step ends.
pub(super) fn give_back(plan: &RunningPlan, row: usize, unclaimed: HashMap<Identity, Row>) {
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

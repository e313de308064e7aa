//! Models a resumed shutdown: what the next run knows of the previous run, and what it cleans again.

use super::{Comp, Elements, ElementsKind, LeafKind, PlanKind, Row};

/// The facts of the previous run that a component keeps when it is cleaned again: whether a step failed, and whether a
/// value was lost.
#[derive(Clone, Copy, Default)]
pub(super) struct Remains {
    pub(super) failed: bool,
    pub(super) lost: bool,
}

impl Remains {
    pub(super) fn join(&mut self, other: Self) {
        self.failed |= other.failed;
        self.lost |= other.lost;
    }
}

impl Row {
    /// Resets the row and the steps in it, as if its cleanup had never begun. An owner inside keeps its progress and is
    /// only resumed, and a value that was taken stays taken.
    pub(super) fn reset(&mut self) {
        self.comp.reset();
        self.skip = false;
        self.began = None;
        self.running = false;
        self.out = None;
        self.nothing = false;
        self.kept = false;
        self.lost = false;
    }

    pub(super) fn remains(&self) -> Remains {
        if self.out.is_some() {
            return Remains {
                failed: !self.is_clean(),
                lost: false,
            };
        }
        if self.best_effort {
            return Remains::default();
        }
        let mut left = self.comp.remains();
        left.failed |= self.kept;
        left.lost |= self.lost;
        left
    }
}

impl Row {
    pub(super) fn resume(&mut self) {
        if !self.running {
            return;
        }
        self.running = false;
        if let Comp::Leaf(leaf) = &self.comp {
            self.lost |= leaf.kind == LeafKind::Taken && leaf.taken;
        }
        let left = self.comp.resume();
        self.kept |= left.failed || left.lost;
        self.lost |= left.lost;
    }
}

impl Elements {
    pub(super) fn resume(&mut self) -> Remains {
        let mut left = std::mem::take(&mut self.carried);
        if !self.open {
            return left;
        }
        self.open = false;
        if self.kind == ElementsKind::Components {
            for row in self.rows.iter_mut().filter(|row| row.out.is_none()) {
                row.running = false;
                let inside = row.comp.remains();
                row.comp.reset();
                row.kept |= inside.failed || inside.lost;
                row.lost |= inside.lost;
            }
            return left;
        }
        let names = |rows: &[Row]| rows.iter().map(|row| row.name.clone()).collect::<Vec<_>>();
        let all = names(&self.rows);
        let unfinished = self.rows.iter().filter(|row| row.out.is_none());
        let unfinished = unfinished.map(|row| row.name.clone()).collect();
        self.before = Some((all, unfinished));
        for row in &mut self.rows {
            left.join(row.remains());
            row.reset();
        }
        left
    }
}

impl Elements {
    /// Compares the elements with those of the previous run. Returns whether the row counts as failed, and whether an
    /// unfinished element was lost. Both are the same here: a row fails if an unfinished element is missing.
    pub(super) fn settle(&mut self) -> (bool, bool) {
        let Some((all, unfinished)) = self.before.take() else {
            return (false, false);
        };
        let lost = match self.kind {
            ElementsKind::List | ElementsKind::Locked => {
                unfinished
                    .len()
                    .min(all.len().saturating_sub(self.rows.len()))
                    > 0
            }
            ElementsKind::Map => {
                let is_there = |name: &String| self.rows.iter().any(|row| row.name == *name);
                unfinished.iter().any(|name| !is_there(name))
            }
            ElementsKind::Components => false,
        };
        (lost, lost)
    }
}

impl Comp {
    /// Begins the next run. The engine cannot identify the components in containers, so they are cleaned again. Returns
    /// the failures and lost values that are kept of them.
    pub(super) fn resume(&mut self) -> Remains {
        match self {
            Self::Plan(plan) => {
                for row in plan.rows.iter_mut().filter(|row| row.out.is_none()) {
                    row.resume();
                }
                Remains::default()
            }
            Self::Elements(elements) => elements.resume(),
            Self::Maybe(Some(inside)) | Self::Object(inside) => {
                let left = inside.remains();
                inside.reset();
                left
            }
            Self::Leaf(_) | Self::Maybe(None) => Remains::default(),
        }
    }

    /// Returns the failures and lost values that the report must keep of a component when it is cleaned again.
    pub(super) fn remains(&self) -> Remains {
        let mut left = Remains::default();
        match self {
            Self::Leaf(leaf) => left.lost = leaf.kind == LeafKind::Taken && leaf.taken,
            // An owner keeps its own failures and reports them again in the next run.
            Self::Plan(plan) if plan.kind == PlanKind::Owner => {}
            _ => self.rows().iter().for_each(|row| left.join(row.remains())),
        }
        left
    }

    pub(super) fn reset(&mut self) {
        match self {
            Self::Plan(plan) if plan.kind == PlanKind::Owner => {
                self.resume();
            }
            Self::Plan(plan) => {
                plan.deadline = None;
                plan.ended = false;
                plan.rows.iter_mut().for_each(Row::reset);
            }
            Self::Elements(elements) => {
                elements.open = false;
                elements.before = None;
                if elements.gone {
                    elements.rows.clear();
                }
                elements.rows.iter_mut().for_each(Row::reset);
            }
            Self::Maybe(Some(inside)) | Self::Object(inside) => inside.reset(),
            Self::Leaf(_) | Self::Maybe(None) => {}
        }
    }
}

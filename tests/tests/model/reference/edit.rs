//! Edits a list or map between two runs.

use super::build::build;
use super::resumed::Remains;
use super::{Elements, Row, World};
use crate::describe::{Node, Script};

/// A list or map between two runs.
pub(crate) struct EditedElements<'a> {
    pub(super) elements: &'a mut Elements,
    pub(super) world: &'a mut World,
}

impl EditedElements<'_> {
    pub(crate) fn remove(&mut self, i: usize) {
        // The drop comes first, while an owner inside still knows which of its steps have ended.
        self.elements.rows[i].comp.drop(self.world);
        // Keeps the remains of the previous run for the next one.
        let left = self.elements.resume();
        self.elements.rows.remove(i);
        self.carry(left);
    }

    pub(crate) fn reverse(&mut self) {
        let left = self.elements.resume();
        self.elements.rows.reverse();
        self.carry(left);
    }

    pub(crate) fn push(&mut self, script: Script) {
        let left = self.elements.resume();
        let comp = build(&Node::Leaf(script), self.world);
        self.elements.rows.push(Row::new("", comp));
        self.carry(left);
    }

    /// Keeps failures and losses of the old rows for the next run.
    fn carry(&mut self, left: Remains) {
        self.elements.carried.join(left);
    }
}

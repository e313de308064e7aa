//! Models the edit of a list or map between two runs of the shutdown.

use super::build::build;
use super::resumed::Remains;
use super::{Elements, Row, World};
use crate::describe::{Node, Script};

/// A list or map that a case edits between two runs of the shutdown.
pub(crate) struct EditedElements<'a> {
    pub(super) elements: &'a mut Elements,
    pub(super) world: &'a mut World,
}

impl EditedElements<'_> {
    pub(crate) fn remove(&mut self, i: usize) {
        // The element is dropped before its rows are reset, while an owner in it still knows which of its steps have
        // ended.
        self.elements.rows[i].comp.drop(self.world);
        // The removed row may have failed in the previous run, and the next run must report that.
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

    /// Keeps the failures and lost values of the old rows, so that the next run reports them.
    fn carry(&mut self, left: Remains) {
        self.elements.carried.join(left);
    }
}

//! A list or map that is edited between two runs.

use super::build::build;
use super::resumed::Left;
use super::{Elements, Row, World};
use crate::describe::{Node, Script};

/// A list or map between two runs.
pub(crate) struct EditedElements<'a> {
    pub(super) elements: &'a mut Elements,
    pub(super) world: &'a mut World,
}

impl EditedElements<'_> {
    pub(crate) fn remove(&mut self, i: usize) {
        // An owner in it knows what has ended, until that is cleaned anew.
        self.elements.rows[i].comp.drop(self.world);
        // What the run before had is kept for the next one, as if it had been resumed before.
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

    /// What was left inside must not be forgotten with the rows: the next run is told.
    fn carry(&mut self, left: Left) {
        self.elements.carried.join(left);
    }
}

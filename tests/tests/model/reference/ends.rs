//! Models aborts, releases and drops.

use super::{ABORT, CUT, Comp, ElementsKind, Leaf, LeafKind, PlanKind, RELEASE, World};

impl LeafKind {
    /// Counts a cut, except of a call on the blocking pool, which cannot be cut.
    fn count_cut(self, leaf: usize, world: &mut World) {
        if self != Self::Blocking {
            world.add(leaf, CUT);
        }
    }
}

impl Leaf {
    pub(super) fn abort(&mut self, world: &mut World) {
        if self.kind != LeafKind::Taken || !self.taken {
            world.add(self.id, ABORT);
            self.taken = true;
        }
    }
}

impl Comp {
    /// Aborts every step that has not ended.
    pub(super) fn abort(&mut self, world: &mut World) {
        if let Self::Leaf(leaf) = self {
            leaf.abort(world);
        }
        for row in self.rows_mut().iter_mut().filter(|row| row.out.is_none()) {
            row.comp.abort(world);
        }
        self.mark_gone();
    }

    /// Marks the component as gone, as an abort or a release leaves it.
    pub(super) fn mark_gone(&mut self) {
        match self {
            Self::Plan(plan) if plan.kind == PlanKind::Owner => plan.ended = true,
            Self::Elements(elements) => {
                elements.gone |= matches!(
                    elements.kind,
                    ElementsKind::Components | ElementsKind::Locked
                );
            }
            Self::Maybe(Some(inside)) | Self::Object(inside) => inside.mark_gone(),
            Self::Leaf(_) | Self::Plan(_) | Self::Maybe(None) => {}
        }
    }

    /// Releases every step that has not ended, as the drop of an owner does.
    pub(super) fn release(&mut self, world: &mut World) {
        if let Self::Leaf(leaf) = self {
            match leaf.kind {
                LeafKind::Plain => world.add(leaf.id, RELEASE),
                // For these the release calls `abort = …`.
                LeafKind::Taken | LeafKind::Blocking => leaf.abort(world),
            }
        }
        if matches!(self, Self::Plan(plan) if plan.ended)
            || matches!(self, Self::Elements(elements) if elements.gone)
        {
            return;
        }
        for row in self.rows_mut().iter_mut().filter(|row| row.out.is_none()) {
            row.comp.release(world);
        }
        self.mark_gone();
    }

    /// Drops the component. Owners inside that were not shut down release their fields, and so do `Components`.
    pub(super) fn drop(&mut self, world: &mut World) {
        match self {
            Self::Plan(plan) if plan.kind == PlanKind::Owner && !plan.ended => self.release(world),
            Self::Elements(elements)
                if elements.kind == ElementsKind::Components && !elements.gone =>
            {
                // Each item is released as a whole, since its progress is not known any more.
                elements.gone = true;
                for row in &mut elements.rows {
                    row.comp.release_all(world);
                }
            }
            _ => {}
        }
        for row in self.rows_mut() {
            row.comp.drop(world);
        }
    }

    /// Releases every step, also those that have ended, except inside owners, which know their progress.
    pub(super) fn release_all(&mut self, world: &mut World) {
        if !matches!(self, Self::Plan(plan) if plan.kind == PlanKind::Owner) {
            if matches!(self, Self::Elements(elements) if elements.gone) {
                return;
            }
            if let Self::Leaf(_) = self {
                self.release(world);
            }
            for row in self.rows_mut() {
                row.comp.release_all(world);
            }
            self.mark_gone();
            return;
        }
        self.release(world);
    }

    /// Cuts every leaf in flight, as the drop of the future does.
    pub(super) fn cut(&mut self, world: &mut World) {
        let leaf = match self {
            Self::Leaf(leaf) => Some(leaf),
            _ => None,
        };
        let cut = leaf.filter(|leaf| leaf.flight.is_some());
        if let Some(leaf) = cut {
            leaf.flight = None;
            leaf.kind.count_cut(leaf.id, world);
        }
        for row in self.rows_mut() {
            row.comp.cut(world);
        }
    }
}

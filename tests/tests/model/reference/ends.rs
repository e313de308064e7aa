//! Models the abort, the release and the drop of components.

use super::{ABORT, CUT, Comp, ElementsKind, Leaf, LeafKind, PlanKind, RELEASE, World};

impl LeafKind {
    /// Counts the drop of a leaf's unfinished future as a cut. A call on the blocking pool has no such future, and is
    /// not counted.
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
    /// Aborts the component: each of its steps that has not ended.
    pub(super) fn abort(&mut self, world: &mut World) {
        if let Self::Leaf(leaf) = self {
            leaf.abort(world);
        }
        for row in self.rows_mut().iter_mut().filter(|row| row.out.is_none()) {
            row.comp.abort(world);
        }
        self.mark_gone();
    }

    /// Marks the component as ended or emptied, after an abort or a release.
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

    /// Releases the component: each of its steps that has not ended. The drop of an owner does that.
    pub(super) fn release(&mut self, world: &mut World) {
        if let Self::Leaf(leaf) = self {
            match leaf.kind {
                LeafKind::Plain => world.add(leaf.id, RELEASE),
                // The release of a taken or blocking leaf calls the function of its key `abort`.
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

    /// Models the drop of the component. Owners in it that were not shut down release their fields, and `Components`
    /// release their items.
    pub(super) fn drop(&mut self, world: &mut World) {
        match self {
            Self::Plan(plan) if plan.kind == PlanKind::Owner && !plan.ended => self.release(world),
            Self::Elements(elements)
                if elements.kind == ElementsKind::Components && !elements.gone =>
            {
                // `Components` release each item as a whole, since they no longer know the item's progress.
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

    /// Releases every step of the component, also the steps that have ended. An owner inside releases only its
    /// unfinished steps, since it knows its progress.
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

    /// Cuts every leaf whose cleanup is running, as the drop of the shutdown's future does.
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

//! Aborts, releases and drops.

use super::{ABORT, CUT, Comp, ElementsKind, Leaf, LeafKind, PlanKind, RELEASE, World};

impl LeafKind {
    /// A call on the blocking pool cannot be cut.
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
    /// Aborts all that has not ended.
    pub(super) fn abort(&mut self, world: &mut World) {
        if let Self::Leaf(leaf) = self {
            leaf.abort(world);
        }
        for row in self.rows_mut().iter_mut().filter(|row| row.out.is_none()) {
            row.comp.abort(world);
        }
        self.let_go();
    }

    /// After an abort or a release nothing is left of what its wrapper holds.
    pub(super) fn let_go(&mut self) {
        match self {
            Self::Plan(plan) if plan.kind == PlanKind::Owner => plan.ended = true,
            Self::Elements(elements) => {
                elements.gone |= matches!(
                    elements.kind,
                    ElementsKind::Components | ElementsKind::Locked
                );
            }
            Self::Maybe(Some(inside)) | Self::Object(inside) => inside.let_go(),
            Self::Leaf(_) | Self::Plan(_) | Self::Maybe(None) => {}
        }
    }

    /// Releases all that has not ended, from the drop of an owner.
    pub(super) fn release(&mut self, world: &mut World) {
        if let Self::Leaf(leaf) = self {
            match leaf.kind {
                LeafKind::Plain => world.add(leaf.id, RELEASE),
                // `abort = …` serves the release.
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
        self.let_go();
    }

    /// Drops it: owners inside that were not shut down release what they own, as dynamic components do.
    pub(super) fn drop(&mut self, world: &mut World) {
        match self {
            Self::Plan(plan) if plan.kind == PlanKind::Owner && !plan.ended => self.release(world),
            Self::Elements(elements)
                if elements.kind == ElementsKind::Components && !elements.gone =>
            {
                // Its items are released one by one, and whole: nothing is known of them any more.
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

    /// Releases all, also what has ended: but owners know what has.
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
            self.let_go();
            return;
        }
        self.release(world);
    }

    /// The future is dropped: what is in flight is cut.
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

//! The code that aborts or releases the steps of a derived type. Both walk the same list of steps.

use crate::component::End;
use crate::engine::{KnownSteps, address_of, contain};
use crate::{Component, Plan, ShutdownState, log};

/// The value whose steps are being aborted or released, and which of its steps have ended.
#[derive(Debug)]
pub struct EndParts {
    end: End,
    known: KnownSteps,
    /// Whether the owner is disarmed, so that there is nothing left to shut down.
    is_disarmed: bool,
}

impl EndParts {
    /// Prepares to abort or release the steps of a part.
    pub fn part<C: Component + ?Sized>(end: End, part: &C, plan: &Plan) -> Self {
        Self {
            end,
            known: KnownSteps::of_part(plan, address_of(part)),
            is_disarmed: false,
        }
    }

    /// Prepares to abort or release the steps of an owner, whose state records which steps have ended.
    pub fn owner(end: End, state: &ShutdownState) -> Self {
        Self {
            end,
            known: KnownSteps::of_plan(state.running()),
            is_disarmed: state.is_disarmed(),
        }
    }

    /// Returns whether step `i` has not ended.
    pub fn is_due(&self, i: usize) -> bool {
        !self.is_disarmed && self.known.is_due(i)
    }

    /// Returns whether the steps are aborted and not released. Only `abort` acts on values that other code shares.
    pub fn aborts(&self) -> bool {
        self.end == End::Abort
    }

    /// Aborts or releases step `i`, whose field is a component.
    pub fn component<C: Component + ?Sized>(&self, i: usize, field: &mut C) {
        self.step(i, C::__IS_PLAN, || match self.end {
            End::Abort => field.abort(),
            End::Release => field.release(),
        });
    }

    /// Calls the `abort = …` of step `i`.
    pub fn call(&self, i: usize, abort: impl FnOnce()) {
        self.step(i, false, abort);
    }

    fn step(&self, i: usize, is_plan: bool, f: impl FnOnce()) {
        if self.is_due(i) {
            let ended = contain(|| self.known.step(i, is_plan, f));
            if let Err(message) = ended {
                match self.end {
                    End::Abort => log::part_abort_panicked(&message),
                    End::Release => log::release_panicked(&message),
                }
            }
        }
    }
}

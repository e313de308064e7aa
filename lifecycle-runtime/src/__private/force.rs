//! `abort` and `release` of a derived type: one list of its steps serves both.

use super::contain;
use crate::component::End;
use crate::{Component, ShutdownState};

/// The steps of one value, about to be forced.
#[derive(Debug)]
pub struct Force<'a> {
    end: End,
    /// Of an owner: it knows which steps have ended.
    state: Option<&'a ShutdownState>,
}

impl<'a> Force<'a> {
    /// Of a part.
    pub fn part(end: End) -> Self {
        Self { end, state: None }
    }

    /// Of an owner.
    pub fn owner(end: End, state: &'a ShutdownState) -> Self {
        Self {
            end,
            state: Some(state),
        }
    }

    /// Whether step `i` has not ended.
    pub fn is_due(&self, i: usize) -> bool {
        self.state.is_none_or(|state| state.is_unfinished(i))
    }

    /// Whether it is shared values too that are forced.
    pub fn aborts(&self) -> bool {
        self.end == End::Abort
    }

    /// Forces step `i`, of a field that is a component.
    pub fn component<C: Component + ?Sized>(&self, i: usize, field: &mut C) {
        if self.is_due(i) {
            contain(|| match self.end {
                End::Abort => field.abort(),
                End::Release => field.release(),
            });
        }
    }
}

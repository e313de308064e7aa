//! Sets of steps.

use super::MAX_STEPS;

/// Some steps of one plan, by their places. As numbers instead of a list, they cost a plan nothing to compile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Places {
    /// The places below 128, a bit each.
    pub(super) low: u128,
    /// Those from 128 on.
    pub(super) high: u128,
}

const _: () = assert!(MAX_STEPS == 256, "two numbers hold all places");

impl Places {
    pub(crate) const NONE: Self = Self { low: 0, high: 0 };

    pub(crate) const fn has(&self, place: usize) -> bool {
        match place {
            0..128 => self.low & (1 << place) != 0,
            _ => self.high & (1 << (place - 128)) != 0,
        }
    }

    #[cfg(feature = "rt")]
    pub(crate) fn add(&mut self, place: usize) {
        match place {
            0..128 => self.low |= 1 << place,
            _ => self.high |= 1 << (place - 128),
        }
    }

    /// Whether all of them are among `others`.
    #[cfg(feature = "rt")]
    pub(crate) fn are_among(&self, others: &Self) -> bool {
        self.low & !others.low == 0 && self.high & !others.high == 0
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = usize> {
        let Self { mut low, mut high } = self;
        std::iter::from_fn(move || {
            let (bits, first) = if low == 0 {
                (&mut high, 128)
            } else {
                (&mut low, 0)
            };
            let place = bits.trailing_zeros() as usize;
            // The lowest bit is taken off; of none there is nothing to take.
            *bits &= bits.checked_sub(1)?;
            Some(first + place)
        })
    }
}

#[cfg(all(test, feature = "rt"))]
mod tests {
    use super::*;
    use crate::{Plan, PlanStep};

    #[test]
    fn places_from_128_on_are_places_like_others() {
        let mut places = Places::NONE;
        for place in [0, 127, 128, 255] {
            assert!(!places.has(place));
            places.add(place);
        }
        assert!(places.iter().eq([0, 127, 128, 255]));
        let mut fewer = Places::NONE;
        fewer.add(128);
        assert!(fewer.are_among(&places) && !places.are_among(&fewer));
    }

    /// A chain: each step waits for the one before it.
    const CHAIN: &[PlanStep] = &{
        let mut steps = [PlanStep::__of("first", 0, 0, None, Plan::LEAF); 200];
        let mut i = 1;
        while i < 200 {
            steps[i] = match i - 1 {
                before @ 0..128 => PlanStep::__of("later", 0, 1 << before, None, Plan::LEAF),
                before => {
                    PlanStep::__of("late", 0, 0, None, Plan::LEAF).__after_late(1 << (before - 128))
                }
            };
            i += 1;
        }
        steps
    };

    #[test]
    fn the_longest_path_goes_through_them() {
        let plan = Plan::__new("Chain", None, CHAIN);
        assert_eq!(plan.budget(), Some(std::time::Duration::from_secs(200)));
    }
}

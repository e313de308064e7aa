//! Sets of steps, with a bit for each.

use super::MAX_STEPS;

/// A set of steps of one plan, by index. It is two numbers and not a list, so that constants compile fast.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StepSet {
    /// The steps with an index below 128, one bit each.
    pub(super) low: u128,
    /// The steps with an index from 128 on, one bit each.
    pub(super) high: u128,
}

const _: () = assert!(MAX_STEPS == 256, "two numbers hold every index");

impl StepSet {
    pub(crate) const NONE: Self = Self { low: 0, high: 0 };

    pub(crate) const fn has(&self, index: usize) -> bool {
        match index {
            0..128 => self.low & (1 << index) != 0,
            _ => self.high & (1 << (index - 128)) != 0,
        }
    }

    #[cfg(feature = "rt")]
    pub(crate) fn add(&mut self, index: usize) {
        match index {
            0..128 => self.low |= 1 << index,
            _ => self.high |= 1 << (index - 128),
        }
    }

    /// Returns whether all steps of this set are among `others`.
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
            let index = bits.trailing_zeros() as usize;
            // This clears the lowest bit, or returns `None` if no bit is set.
            *bits &= bits.checked_sub(1)?;
            Some(first + index)
        })
    }
}

#[cfg(all(test, feature = "rt"))]
mod tests {
    use super::*;
    use crate::{Plan, PlanStep};

    #[test]
    fn indices_from_128_on_work_like_the_others() {
        let mut set = StepSet::NONE;
        for index in [0, 127, 128, 255] {
            assert!(!set.has(index));
            set.add(index);
        }
        assert!(set.iter().eq([0, 127, 128, 255]));
        let mut fewer = StepSet::NONE;
        fewer.add(128);
        assert!(fewer.are_among(&set) && !set.are_among(&fewer));
    }

    /// A plan's steps in which each step waits for the step before it.
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

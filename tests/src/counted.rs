//! A state for saving, which can tell after loading whether it is whole.

use serde::{Deserialize, Serialize};

/// A number with many copies of itself. Each number has another count of copies than the number before it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Counted {
    number: u64,
    copies: Vec<u64>,
}

impl Counted {
    pub fn of(number: u64) -> Self {
        let many = 1_000 + number % 7 * 500;
        Self {
            number,
            copies: (0..many).map(|_| number).collect(),
        }
    }

    /// Changes the state to that of the next number, and returns that number.
    pub fn advance(&mut self) -> u64 {
        *self = Self::of(self.number + 1);
        self.number
    }

    /// Returns the number.
    ///
    /// # Panics
    ///
    /// If the copies differ from the number, or their count is wrong.
    pub fn number(&self) -> u64 {
        let whole = self.copies.iter().all(|&copy| copy == self.number);
        assert!(whole, "a mixture of states: {}", self.number);
        let expected = Self::of(self.number).copies.len();
        assert!(
            self.number == 0 || self.copies.len() == expected,
            "a part of a state: {} of {expected}",
            self.copies.len()
        );
        self.number
    }
}

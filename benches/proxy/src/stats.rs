//! Computes medians and quartiles.

use std::fmt;

/// The median and the two quartiles of several values.
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { median, low, high } = self;
        write!(f, "{median:.3} ({low:.3}–{high:.3})")
    }
}

/// Returns the median and quartiles of `values`, which must not be empty.
pub(crate) fn spread(values: impl IntoIterator<Item = f64>) -> Spread {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let at = |part: usize| values[(values.len() - 1) * part / 4];
    Spread {
        median: at(2),
        low: at(1),
        high: at(3),
    }
}

pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    spread(values).median
}

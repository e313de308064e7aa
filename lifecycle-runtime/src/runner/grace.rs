//! The time that a platform gives a process to end.

use std::error::Error;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::log;

/// The time that a platform gives a process to end, for [`Runner::grace`](crate::Runner::grace).
///
/// A grace period is made from a [`Duration`] or from a text: whole numbers, each with one of the units h, m, s and ms,
/// separated by spaces, such as `"30s"` or `"1m 30s"`. Parse a text that is known only at run time; a typo in the text
/// is then an error that the caller can handle:
///
/// ```
/// use lifecycle_runtime::Grace;
///
/// let grace: Grace = "1m 30s".parse()?;
///
/// let error = "30 seconds".parse::<Grace>().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "\"30 seconds\" is not a grace period: \"30\" has no unit; \
///      write numbers with the units h, m, s or ms, such as \"30s\" or \"1m 30s\""
/// );
/// # Ok::<(), lifecycle_runtime::InvalidGrace>(())
/// ```
///
/// Only a literal converts without parsing, as in `runner.grace("30s")`. Other borrowed texts do not compile there, so
/// no setting is ever used unchecked:
///
/// ```compile_fail,E0597
/// let setting = String::from("30s");
/// let grace = lifecycle_runtime::Grace::try_from(setting.as_str());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grace(Duration);

/// The error for a text that is no [`Grace`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidGrace {
    text: String,
    why: Why,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Why {
    Empty,
    NoNumber(String),
    NoUnit(String),
    UnknownUnit(String),
    TooLong,
}

impl From<Duration> for Grace {
    fn from(grace: Duration) -> Self {
        Self(grace)
    }
}

impl From<Grace> for Duration {
    fn from(grace: Grace) -> Self {
        grace.0
    }
}

impl FromStr for Grace {
    type Err = InvalidGrace;

    fn from_str(text: &str) -> Result<Self, InvalidGrace> {
        parse(text).map(Self).map_err(|why| InvalidGrace {
            text: text.into(),
            why,
        })
    }
}

/// Converts a literal, for [`Runner::grace`](crate::Runner::grace). Any other text must be parsed.
impl TryFrom<&'static str> for Grace {
    type Error = InvalidGrace;

    fn try_from(literal: &'static str) -> Result<Self, InvalidGrace> {
        literal.parse()
    }
}

fn parse(text: &str) -> Result<Duration, Why> {
    let mut total = Duration::ZERO;
    let mut parts = text.split_whitespace().peekable();
    parts.peek().ok_or(Why::Empty)?;
    for part in parts {
        let digits = part.find(|c: char| !c.is_ascii_digit());
        let (number, unit) = part.split_at(digits.ok_or_else(|| Why::NoUnit(part.into()))?);
        if number.is_empty() {
            return Err(Why::NoNumber(part.into()));
        }
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(Why::UnknownUnit(unit.into())),
        };
        // Parsing digits fails only if the number is too large for a u64.
        let number: u64 = number.parse().map_err(|_| Why::TooLong)?;
        let millis = number.checked_mul(millis).ok_or(Why::TooLong)?;
        total = total
            .checked_add(Duration::from_millis(millis))
            .ok_or(Why::TooLong)?;
    }
    Ok(total)
}

impl fmt::Display for InvalidGrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a grace period: ", self.text)?;
        match &self.why {
            Why::Empty => f.write_str("it is empty"),
            Why::NoNumber(part) => write!(f, "{part:?} does not begin with a number"),
            Why::NoUnit(part) => write!(f, "{part:?} has no unit"),
            Why::UnknownUnit(unit) => write!(f, "{unit:?} is not a unit"),
            Why::TooLong => f.write_str("it is too long to count"),
        }?;
        f.write_str("; write numbers with the units h, m, s or ms, such as \"30s\" or \"1m 30s\"")
    }
}

impl Error for InvalidGrace {}

impl Grace {
    /// Logs a warning if the grace period is shorter than the longest possible shutdown.
    pub(super) fn check(
        self,
        component: &str,
        lame_duck: Duration,
        budget: Duration,
        after: Duration,
    ) {
        let Self(grace) = self;
        let needed = lame_duck.saturating_add(budget).saturating_add(after);
        if needed > grace {
            log::grace_short(component, grace, lame_duck, budget, after);
        }
    }
}

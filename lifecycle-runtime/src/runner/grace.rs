//! The time a platform gives a process to end.

use std::time::Duration;

use crate::log;

/// A grace period: a [`Duration`], or a text such as `"30s"` or `"1m 30s"` (units h, m, s, ms).
#[derive(Clone, Copy, Debug)]
pub struct Grace(Option<Duration>);

impl From<Duration> for Grace {
    fn from(grace: Duration) -> Self {
        Self(Some(grace))
    }
}

impl From<&str> for Grace {
    /// A text that is no duration is logged when the server starts, and nothing is checked.
    fn from(text: &str) -> Self {
        Self(parse(text))
    }
}

fn parse(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut parts = text.split_whitespace().peekable();
    parts.peek()?;
    for part in parts {
        let unit = part.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = part[..unit].parse().ok()?;
        let millis = match &part[unit..] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        total = total.checked_add(Duration::from_millis(number.checked_mul(millis)?))?;
    }
    Some(total)
}

impl Grace {
    /// Warns of a grace period that what may be needed exceeds.
    pub(super) fn check(
        self,
        component: &str,
        lame_duck: Duration,
        budget: Duration,
        after: Duration,
    ) {
        let Self(Some(grace)) = self else {
            return log::grace_unreadable(component);
        };
        let needed = lame_duck.saturating_add(budget).saturating_add(after);
        if needed > grace {
            log::grace_short(component, grace, lame_duck, budget, after);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_sums_of_numbers_with_units() {
        assert_eq!(parse("30s"), Some(Duration::from_secs(30)));
        assert_eq!(parse("1m 30s 5ms"), Some(Duration::from_millis(90_005)));
        assert_eq!(parse("2h"), Some(Duration::from_secs(7_200)));
        for wrong in [
            "",
            " ",
            "30",
            "s",
            "-1s",
            "1.5s",
            "1d",
            "1s2",
            "99999999999999999999s",
        ] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }
}

//! The parser of durations such as `"1m 30s"`.

use std::time::Duration;

/// The longest allowed duration. It is longer than any shutdown, and far below the length at which the arithmetic of
/// instants overflows.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The units, from large to small, with their length in nanoseconds.
const UNITS: [(&str, u64); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Wrong spellings of units that users may try, each with the right spelling.
const ALIASES: [(&str, &str); 18] = [
    ("day", "d"),
    ("days", "d"),
    ("hr", "h"),
    ("hour", "h"),
    ("hours", "h"),
    ("min", "m"),
    ("mins", "m"),
    ("minute", "m"),
    ("minutes", "m"),
    ("sec", "s"),
    ("secs", "s"),
    ("second", "s"),
    ("seconds", "s"),
    ("msec", "ms"),
    ("millis", "ms"),
    ("milliseconds", "ms"),
    ("µs", "us"),
    ("S", "s"),
];

/// The reason why a text is not a duration, and what to write instead.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct InvalidDuration {
    pub(crate) what: String,
    pub(crate) help: String,
}

impl InvalidDuration {
    fn new(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            help: help.into(),
        }
    }
}

const EXPECTED: &str = "write numbers with units, such as \"25s\", \"250ms\" or \"1m 30s\"";

/// Parses a duration: integers, each with its unit, the largest unit first.
pub(crate) fn parse(text: &str) -> Result<Duration, InvalidDuration> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(InvalidDuration::new("the duration is empty", EXPECTED));
    }
    let mut total = Duration::ZERO;
    let mut allowed = &UNITS[..];
    while !rest.is_empty() {
        let (number, unit, tail) = split(text, rest)?;
        let position = UNITS
            .iter()
            .position(|(name, _)| *name == unit)
            .ok_or_else(|| unknown_unit(text, unit))?;
        let skipped = UNITS.len() - allowed.len();
        if position < skipped {
            return Err(out_of_order(text, unit));
        }
        allowed = &UNITS[position + 1..];
        total = add(total, number, UNITS[position].1).ok_or_else(|| too_long(text))?;
        rest = tail;
    }
    match total {
        Duration::ZERO => Err(InvalidDuration::new(
            format!("`{text}` is zero: a step would be cut before it began"),
            "give the longest time it may take, such as \"5s\"; or remove the timeout: a step then gets the time that the others leave",
        )),
        total if total > LONGEST => Err(too_long(text)),
        total => Ok(total),
    }
}

/// Splits the next number and its unit off `rest`. Returns the number, the unit and the remaining text.
fn split<'a>(text: &str, rest: &'a str) -> Result<(&'a str, &'a str, &'a str), InvalidDuration> {
    if rest.starts_with('-') {
        return Err(InvalidDuration::new(
            format!("`{text}` is negative"),
            EXPECTED,
        ));
    }
    let digits = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (number, rest) = rest.split_at(digits);
    if number.is_empty() {
        return Err(InvalidDuration::new(
            format!("`{text}` is not a duration"),
            EXPECTED,
        ));
    }
    if rest.starts_with(['.', ',']) {
        return Err(InvalidDuration::new(
            format!("`{text}` has a fraction, but a duration is made of whole numbers"),
            "use a smaller unit: \"1s 500ms\" for one and a half seconds",
        ));
    }
    let rest = rest.trim_start();
    let letters = rest
        .find(|c: char| !c.is_alphabetic())
        .unwrap_or(rest.len());
    let (unit, tail) = rest.split_at(letters);
    if unit.is_empty() {
        return Err(InvalidDuration::new(
            if number == text {
                format!("`{text}` has no unit")
            } else {
                format!("`{number}` in `{text}` has no unit")
            },
            format!("add a unit: \"{number}s\" for seconds, \"{number}ms\" for milliseconds"),
        ));
    }
    Ok((number, unit, tail.trim_start()))
}

/// Adds `number` units to `total`. Returns `None` on overflow.
fn add(total: Duration, number: &str, unit: u64) -> Option<Duration> {
    let nanos = number.parse::<u64>().ok()?.checked_mul(unit)?;
    total.checked_add(Duration::from_nanos(nanos))
}

fn unknown_unit(text: &str, unit: &str) -> InvalidDuration {
    let meant = ALIASES
        .iter()
        .find(|(alias, _)| *alias == unit)
        .map(|(_, name)| *name);
    let help = match meant {
        Some(name) => format!("write `{name}` for `{unit}`"),
        None => "the units are d, h, m, s, ms, us and ns".to_owned(),
    };
    InvalidDuration::new(format!("`{unit}` in `{text}` is not a unit of time"), help)
}

fn out_of_order(text: &str, unit: &str) -> InvalidDuration {
    InvalidDuration::new(
        format!("`{unit}` in `{text}` does not come after a larger unit"),
        "give each unit once, the largest first, such as \"1m 30s\"",
    )
}

fn too_long(text: &str) -> InvalidDuration {
    InvalidDuration::new(
        format!("`{text}` is longer than a year"),
        "give the longest time that the shutdown may take, such as \"25s\"",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_durations_are_parsed() {
        for (text, expected) in [
            ("25s", Duration::from_secs(25)),
            ("250ms", Duration::from_millis(250)),
            ("1h", Duration::from_secs(3600)),
            ("1m 30s", Duration::from_secs(90)),
            ("1m30s", Duration::from_secs(90)),
            (" 2 s ", Duration::from_secs(2)),
            ("1d 2h 3m 4s 5ms 6us 7ns", Duration::new(93_784, 5_006_007)),
            ("0m 1s", Duration::from_secs(1)),
            ("365d", LONGEST),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn each_invalid_duration_says_what_is_wrong() {
        for (text, part) in [
            ("", "empty"),
            ("  ", "empty"),
            ("25", "no unit"),
            ("1m 30", "no unit"),
            ("0s", "is zero"),
            ("0h 0ms", "is zero"),
            ("-5s", "negative"),
            ("1m -5s", "negative"),
            ("1.5s", "fraction"),
            ("1,5s", "fraction"),
            ("five seconds", "not a duration"),
            ("5 parsecs", "not a unit of time"),
            ("5 secs", "not a unit of time"),
            ("30s 1m", "after a larger unit"),
            ("1s 1s", "after a larger unit"),
            ("366d", "longer than a year"),
            ("99999999999999999999s", "longer than a year"),
            ("18446744073709551615d", "longer than a year"),
            ("5s!", "not a duration"),
        ] {
            let bad = parse(text).expect_err(text);
            assert!(bad.what.contains(part), "{text}: {}", bad.what);
            assert!(!bad.help.is_empty());
        }
    }

    #[test]
    fn a_common_spelling_of_a_unit_gets_the_right_one() {
        assert_eq!(
            parse("5 secs").map_err(|bad| bad.help),
            Err("write `s` for `secs`".to_owned())
        );
    }
}

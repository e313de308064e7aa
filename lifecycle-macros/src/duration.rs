//! `"1m 30s"` to a [`Duration`].

use std::time::Duration;

/// Longer than any shutdown, and far from where the arithmetic of instants overflows.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The units, from large to small, with what each is in nanoseconds.
const UNITS: [(&str, u64); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Spellings that people try, with the one that is right.
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

/// Why a text is no duration, and what to write instead.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadDuration {
    pub(crate) what: String,
    pub(crate) help: String,
}

impl BadDuration {
    fn new(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            help: help.into(),
        }
    }
}

const FORM: &str = "write numbers with units, such as \"25s\", \"250ms\" or \"1m 30s\"";

/// Reads a duration: whole numbers, each with its unit, from large to small.
pub(crate) fn parse(text: &str) -> Result<Duration, BadDuration> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(BadDuration::new("the duration is empty", FORM));
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
        Duration::ZERO => Err(BadDuration::new(
            format!("`{text}` is no time at all: the step would be cut before it began"),
            "give the time it may take, such as \"5s\", or remove the timeout to let it have what the others leave",
        )),
        total if total > LONGEST => Err(too_long(text)),
        total => Ok(total),
    }
}

/// The next number, its unit, and what comes after them.
fn split<'a>(text: &str, rest: &'a str) -> Result<(&'a str, &'a str, &'a str), BadDuration> {
    if rest.starts_with('-') {
        return Err(BadDuration::new(
            format!("`{text}` is negative: a timeout lies in the future"),
            FORM,
        ));
    }
    let digits = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (number, rest) = rest.split_at(digits);
    if number.is_empty() {
        return Err(BadDuration::new(format!("`{text}` is no duration"), FORM));
    }
    if rest.starts_with(['.', ',']) {
        return Err(BadDuration::new(
            format!("`{text}` has a fraction; durations are whole numbers"),
            "use a smaller unit: \"1s 500ms\" for one and a half seconds",
        ));
    }
    let rest = rest.trim_start();
    let letters = rest
        .find(|c: char| !c.is_alphabetic())
        .unwrap_or(rest.len());
    let (unit, tail) = rest.split_at(letters);
    if unit.is_empty() {
        return Err(BadDuration::new(
            if number == text {
                format!("`{text}` has no unit")
            } else {
                format!("`{number}` in `{text}` has no unit")
            },
            format!(
                "say what it counts: \"{number}s\" for seconds, \"{number}ms\" for milliseconds"
            ),
        ));
    }
    Ok((number, unit, tail.trim_start()))
}

/// `None` when the sum leaves the range of `Duration`, or the number that of `u64`.
fn add(total: Duration, number: &str, unit: u64) -> Option<Duration> {
    let nanos = number.parse::<u64>().ok()?.checked_mul(unit)?;
    total.checked_add(Duration::from_nanos(nanos))
}

fn unknown_unit(text: &str, unit: &str) -> BadDuration {
    let meant = ALIASES
        .iter()
        .find(|(alias, _)| *alias == unit)
        .map(|(_, name)| *name);
    let help = match meant {
        Some(name) => format!("write `{name}` for `{unit}`"),
        None => "the units are d, h, m, s, ms, us and ns".to_owned(),
    };
    BadDuration::new(format!("`{unit}` in `{text}` is no unit of time"), help)
}

fn out_of_order(text: &str, unit: &str) -> BadDuration {
    BadDuration::new(
        format!("`{unit}` in `{text}` comes after a unit that is no larger"),
        "give each unit once, the largest first, such as \"1m 30s\"",
    )
}

fn too_long(text: &str) -> BadDuration {
    BadDuration::new(
        format!("`{text}` is longer than a year"),
        "give the time the shutdown may really take, such as \"25s\"",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
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
    fn what_is_no_duration_says_why() {
        for (text, part) in [
            ("", "empty"),
            ("  ", "empty"),
            ("25", "no unit"),
            ("1m 30", "no unit"),
            ("0s", "no time at all"),
            ("0h 0ms", "no time at all"),
            ("-5s", "negative"),
            ("1m -5s", "negative"),
            ("1.5s", "fraction"),
            ("1,5s", "fraction"),
            ("five seconds", "no duration"),
            ("5 parsecs", "no unit of time"),
            ("5 secs", "no unit of time"),
            ("30s 1m", "no larger"),
            ("1s 1s", "no larger"),
            ("366d", "longer than a year"),
            ("99999999999999999999s", "longer than a year"),
            ("18446744073709551615d", "longer than a year"),
            ("5s!", "no duration"),
        ] {
            let bad = parse(text).expect_err(text);
            assert!(bad.what.contains(part), "{text}: {}", bad.what);
            assert!(!bad.help.is_empty());
        }
    }

    #[test]
    fn a_near_unit_is_offered() {
        assert_eq!(
            parse("5 secs").map_err(|bad| bad.help),
            Err("write `s` for `secs`".to_owned())
        );
    }
}

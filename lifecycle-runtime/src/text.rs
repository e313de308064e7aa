//! The text formats that plans and reports share: tables, times, and labels of Mermaid diagrams.

use std::fmt::{self, Write as _};
use std::time::Duration;

/// Writes rows as an aligned table, one line for each row. The first row is the head.
pub(crate) fn table<const N: usize>(
    f: &mut fmt::Formatter<'_>,
    rows: &[[String; N]],
) -> fmt::Result {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            write!(line, "  {cell:<width$}")?;
        }
        write!(f, "\n{}", line.trim_end())?;
    }
    Ok(())
}

/// A text for a Mermaid label. Characters that Mermaid would interpret are written as entities.
pub(crate) struct Label<'a>(pub(crate) &'a str);

impl fmt::Display for Label<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            // An empty text becomes a space, since Mermaid has no empty labels.
            return f.write_char(' ');
        }
        self.0.chars().try_for_each(|c| match c {
            '"' | '#' | ';' | ':' | ',' | '<' | '>' | '&' | '%' | '$' | '`' | '\\' => {
                write!(f, "#{};", u32::from(c))
            }
            c if c.is_control() => f.write_char(' '),
            c => f.write_char(c),
        })
    }
}

/// A duration as people read it, with at most four digits.
pub(crate) struct Time(pub(crate) Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        match micros {
            0..1_000 => write!(f, "{micros} µs"),
            1_000..10_000 => write!(f, "{:.1} ms", self.0.as_secs_f64() * 1e3),
            10_000..1_000_000 => write!(f, "{} ms", micros / 1_000),
            _ => write!(f, "{:.2} s", self.0.as_secs_f64()),
        }
    }
}

/// Returns a duration in whole milliseconds, for data and logs.
#[cfg(any(feature = "serde", feature = "rt"))]
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Joins the path `above` and the name of a step inside it.
pub(crate) fn path(above: &str, name: &str) -> String {
    match above {
        "" => name.to_owned(),
        above if name.starts_with('[') => format!("{above}{name}"),
        above => format!("{above}.{name}"),
    }
}

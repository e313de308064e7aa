//! The plan as the type's documentation shows it.

use std::fmt::{self, Write as _};
use std::time::Duration;

use quote::ToTokens as _;
use syn::ext::IdentExt as _;

use crate::attr::tidy;
use crate::plan::{
    Body, Budget, Cleanup, Function, Kind, Known, Plan, Step, Through, Weight, With,
};

/// A table and a diagram.
pub(super) fn docs(plan: &Plan<'_>) -> String {
    let mut text = String::new();
    // Writing to a `String` cannot fail.
    let _ = write_docs(&mut text, plan);
    text
}

fn write_docs(text: &mut String, plan: &Plan<'_>) -> fmt::Result {
    write!(text, "The shutdown plan of `{}`", plan.name)?;
    match &plan.kind {
        Kind::Owner {
            timeout: Some((timeout, _)),
            body,
            ..
        } => {
            writeln!(text, ", within {}.", within(timeout))?;
            section(text, body)
        }
        Kind::Owner {
            timeout: None,
            body,
            ..
        } => {
            writeln!(text, ", within the default timeout.")?;
            section(text, body)
        }
        Kind::Part {
            timeout: Some((timeout, _)),
            body,
        } => {
            writeln!(
                text,
                ", within {}, as a part of what it lives in.",
                within(timeout)
            )?;
            section(text, body)
        }
        Kind::Part {
            timeout: None,
            body,
        } => {
            writeln!(text, ", as a part of what it lives in.")?;
            section(text, body)
        }
        Kind::OneOf(variants) => {
            writeln!(text, ": the live variant is cleaned.")?;
            variants.iter().try_for_each(|variant| {
                writeln!(text, "\n`{}`:", variant.ident.unraw())?;
                section(text, &variant.body)
            })
        }
    }
}

fn section(text: &mut String, body: &Body<'_>) -> fmt::Result {
    if body.steps.is_empty() {
        return writeln!(text, "\nNothing to clean.");
    }
    writeln!(
        text,
        "\n| order | field | waits for | budget | how |\n|---|---|---|---|---|"
    )?;
    for step in &body.steps {
        let waits: Vec<_> = step
            .after
            .iter()
            .map(|&place| format!("`{}`", body.steps[place].field.name))
            .collect();
        let budget = step
            .budget
            .as_ref()
            .map_or_else(|| "what is left".to_owned(), shown);
        writeln!(
            text,
            "| {} | `{}` | {} | {budget} | {} |",
            step.priority,
            step.field.name,
            waits.join(", "),
            how(step)
        )?;
    }
    writeln!(text, "\n```mermaid\nflowchart LR")?;
    for (place, step) in body.steps.iter().enumerate() {
        let budget = step
            .budget
            .as_ref()
            .map_or_else(String::new, |budget| format!("<br/>{}", shown(budget)));
        writeln!(text, "    s{place}[\"{}{budget}\"]", step.field.name)?;
    }
    for (place, step) in body.steps.iter().enumerate() {
        for earlier in &step.after {
            writeln!(text, "    s{earlier} --> s{place}")?;
        }
    }
    writeln!(text, "```")
}

fn how(step: &Step<'_>) -> String {
    let mut how = match &step.cleanup {
        Cleanup::Component { .. } => "by its type".to_owned(),
        Cleanup::With(with) => call(with, "`").replace('|', "\\|"),
    };
    match step.weight {
        Weight::Normal => {}
        Weight::Required => how.push_str(", required"),
        Weight::BestEffort => how.push_str(", best effort"),
    }
    how
}

/// How a step is cleaned, for tables; what is Rust stands in `marks`.
pub(super) fn call(with: &With<'_>, marks: &str) -> String {
    let prefix = match (with.through == Through::Taken, with.blocking) {
        (false, false) => "",
        (true, false) => "take, ",
        (false, true) => "blocking, ",
        (true, true) => "take, blocking, ",
    };
    match &with.call.function {
        Function::Path(path) => {
            let shown = tidy(&path.to_token_stream().to_string());
            format!("{prefix}with {marks}{shown}{marks}")
        }
        Function::Closure { .. } => format!("{prefix}with a closure"),
    }
}

fn within(budget: &Budget<'_>) -> String {
    match budget {
        Budget::Computed { at_most: None, .. } => "a time known when it runs".to_owned(),
        other => shown(other),
    }
}

fn shown(budget: &Budget<'_>) -> String {
    match budget {
        Budget::Known(known) => shown_time(known),
        Budget::Computed { at_most: None, .. } => "known when it runs".to_owned(),
        Budget::Computed {
            at_most: Some(limit),
            ..
        } => format!("at most {}", shown_time(limit)),
    }
}

fn shown_time(known: &Known<'_>) -> String {
    match known {
        Known::Time(time) => units(*time),
        Known::Const(_) => "a constant".to_owned(),
    }
}

/// As the attribute would have it: `1m 30s`.
fn units(time: Duration) -> String {
    let seconds = time.as_secs();
    let nanos = u64::from(time.subsec_nanos());
    let parts = [
        (seconds / 3600, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
        (nanos / 1_000_000, "ms"),
        (nanos / 1_000 % 1_000, "us"),
        (nanos % 1_000, "ns"),
    ];
    let parts: Vec<_> = parts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect();
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_they_are_written() {
        assert_eq!(units(Duration::from_secs(90)), "1m 30s");
        assert_eq!(units(Duration::from_millis(250)), "250ms");
        assert_eq!(units(Duration::new(3_600, 1_002_003)), "1h 1ms 2us 3ns");
    }
}

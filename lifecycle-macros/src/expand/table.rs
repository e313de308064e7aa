//! The writer of the plan in the type's documentation: a table and a diagram.

use std::fmt::{self, Write as _};
use std::time::Duration;

use quote::ToTokens as _;
use syn::ext::IdentExt as _;

use crate::attr::join_tokens;
use crate::plan::{
    Access, Body, Budget, Cleanup, Function, Importance, Kind, KnownTime, Plan, Step, With,
};

/// Returns the documentation of the plan, in Markdown.
pub(super) fn docs(plan: &Plan<'_>) -> String {
    let mut text = String::new();
    // The result is ignored, since writing to a `String` cannot fail.
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
            writeln!(text, ", within {}.", describe_total(timeout))?;
            write_section(text, body)
        }
        Kind::Owner {
            timeout: None,
            body,
            ..
        } => {
            writeln!(text, ", within the default timeout.")?;
            write_section(text, body)
        }
        Kind::Part {
            timeout: Some((timeout, _)),
            body,
        } => {
            writeln!(
                text,
                ", within {}, as a part of what it lives in.",
                describe_total(timeout)
            )?;
            write_section(text, body)
        }
        Kind::Part {
            timeout: None,
            body,
        } => {
            writeln!(text, ", as a part of what it lives in.")?;
            write_section(text, body)
        }
        Kind::Enum(variants) => {
            writeln!(text, ": the live variant is cleaned.")?;
            variants.iter().try_for_each(|variant| {
                writeln!(text, "\n`{}`:", variant.ident.unraw())?;
                write_section(text, &variant.body)
            })
        }
    }
}

fn write_section(text: &mut String, body: &Body<'_>) -> fmt::Result {
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
            .map(|&position| format!("`{}`", body.steps[position].field.name))
            .collect();
        let budget = step
            .budget
            .as_ref()
            .map_or_else(|| "what is left".to_owned(), describe_budget);
        writeln!(
            text,
            "| {} | `{}` | {} | {budget} | {} |",
            step.priority,
            step.field.name,
            waits.join(", "),
            describe_cleanup(step)
        )?;
    }
    writeln!(text, "\n```mermaid\nflowchart LR")?;
    for (position, step) in body.steps.iter().enumerate() {
        let budget = step.budget.as_ref().map_or_else(String::new, |budget| {
            format!("<br/>{}", describe_budget(budget))
        });
        writeln!(text, "    s{position}[\"{}{budget}\"]", step.field.name)?;
    }
    for (position, step) in body.steps.iter().enumerate() {
        for earlier in &step.after {
            writeln!(text, "    s{earlier} --> s{position}")?;
        }
    }
    writeln!(text, "```")
}

fn describe_cleanup(step: &Step<'_>) -> String {
    let mut how = match &step.cleanup {
        Cleanup::Component { .. } => "by its type".to_owned(),
        Cleanup::With(with) => describe_call(with, "`").replace('|', "\\|"),
    };
    match step.importance {
        Importance::Normal => {}
        Importance::Required => how.push_str(", required"),
        Importance::BestEffort => how.push_str(", best effort"),
    }
    how
}

/// Describes how a step is cleaned up, for tables. Rust paths are put between two `marks`.
pub(super) fn describe_call(with: &With<'_>, marks: &str) -> String {
    let prefix = match (with.access == Access::Taken, with.blocking) {
        (false, false) => "",
        (true, false) => "take, ",
        (false, true) => "blocking, ",
        (true, true) => "take, blocking, ",
    };
    match &with.call.function {
        Function::Path(path) => {
            let shown = join_tokens(&path.to_token_stream().to_string());
            format!("{prefix}with {marks}{shown}{marks}")
        }
        Function::Closure { .. } => format!("{prefix}with a closure"),
    }
}

fn describe_total(budget: &Budget<'_>) -> String {
    match budget {
        Budget::Computed { at_most: None, .. } => "a time known when it runs".to_owned(),
        other => describe_budget(other),
    }
}

fn describe_budget(budget: &Budget<'_>) -> String {
    match budget {
        Budget::Constant(known) => format_known_time(known),
        Budget::Computed { at_most: None, .. } => "known when it runs".to_owned(),
        Budget::Computed {
            at_most: Some(limit),
            ..
        } => format!("at most {}", format_known_time(limit)),
    }
}

fn format_known_time(known: &KnownTime<'_>) -> String {
    match known {
        KnownTime::Literal(time) => format_time(*time),
        KnownTime::Const(_) => "a constant".to_owned(),
    }
}

/// Formats a time as the attribute takes it: `1m 30s`.
fn format_time(time: Duration) -> String {
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
    fn times_are_formatted_as_the_attribute_takes_them() {
        assert_eq!(format_time(Duration::from_secs(90)), "1m 30s");
        assert_eq!(format_time(Duration::from_millis(250)), "250ms");
        assert_eq!(
            format_time(Duration::new(3_600, 1_002_003)),
            "1h 1ms 2us 3ns"
        );
    }
}

//! The functions that print reports as tables and draw them as timelines.

use std::fmt::{self, Write as _};
use std::time::Duration;

use super::{Outcome, Report, Step};
use crate::text::{Label, Time, table};

pub(super) fn report(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    let verdict = match report.forced() {
        Some(force) => format!("forced by {force}"),
        None if report.is_clean() => "clean".into(),
        None => "not clean".into(),
    };
    f.write_str("shutdown")?;
    if !report.component().is_empty() {
        write!(f, " of {}", report.component())?;
    }
    write!(
        f,
        " ({}): {verdict} after {}",
        report.reason(),
        Time(report.elapsed()),
    )?;
    let mut rows = vec![["step", "outcome", "start", "took", "budget", ""].map(String::from)];
    for step in report.steps() {
        push(step, 0, &mut rows);
    }
    if rows.len() > 1 {
        table(f, &rows)?;
    }
    if report.steps().len() > 1 {
        if let Some(slowest) = report.steps().iter().max_by_key(|step| step.elapsed()) {
            write!(
                f,
                "\nslowest: {} ({})",
                slowest.name,
                Time(slowest.elapsed())
            )?;
        }
    }
    match report.tasks_left() {
        0 => Ok(()),
        1 => write!(f, "\nnote: the runtime still has 1 task that no field owns"),
        tasks => write!(
            f,
            "\nnote: the runtime still has {tasks} tasks that no field owns"
        ),
    }
}

fn push(step: &Step, depth: usize, rows: &mut Vec<[String; 6]>) {
    let mut note = step.detail().unwrap_or_default().into_owned();
    if !step.steps.is_empty() && matches!(step.outcome, Outcome::Failed(_)) {
        // The note is left out here, since the rows of the nested steps show the error.
        note.clear();
    }
    let over = step.elapsed().saturating_sub(step.budget());
    let mut add = |text: String| {
        if !note.is_empty() {
            note.push_str("; ");
        }
        note.push_str(&text);
    };
    if over > OVERRUN {
        add(format!("{} over its budget", Time(over)));
    }
    if step.best_effort && !step.went_well() {
        add("best effort".into());
    }
    rows.push([
        format!("{}{}", "  ".repeat(depth), step.name),
        step.outcome.word().into(),
        Time(step.started()).to_string(),
        Time(step.elapsed()).to_string(),
        Time(step.budget()).to_string(),
        note,
    ]);
    push_nested(&step.steps, depth + 1, rows);
}

/// Adds the rows of nested steps to `rows`. If many elements are done, they share one row.
fn push_nested(steps: &[Step], depth: usize, rows: &mut Vec<[String; 6]>) {
    const ALIKE: usize = 8;
    let dull = |step: &Step| step.is_element() && step.outcome.is_done() && step.is_clean();
    let done = steps.iter().filter(|step| dull(step)).count();
    for step in steps {
        if done <= ALIKE || !dull(step) {
            push(step, depth, rows);
        }
    }
    if done > ALIKE {
        let most = |of: fn(&Step) -> Duration| steps.iter().map(of).max().unwrap_or_default();
        rows.push([
            format!("{}{done} elements", "  ".repeat(depth)),
            "done".into(),
            String::new(),
            format!("≤ {}", Time(most(Step::elapsed))),
            String::new(),
            String::new(),
        ]);
    }
}

/// The time by which a step must exceed its time limit before it is shown as late, as timers are always a little late.
const OVERRUN: Duration = Duration::from_millis(10);

pub(super) fn gantt(report: &Report) -> String {
    let mut out = String::from("gantt\n    dateFormat x\n    axisFormat %S.%L s\n");
    // Errors are ignored here and below, since writing to a `String` cannot fail.
    let _ = match report.component() {
        "" => writeln!(out, "    title shutdown"),
        component => writeln!(out, "    title shutdown of {}", Label(component)),
    };
    for step in report.steps() {
        bar(step, &Task(&step.name).to_string(), &mut out);
    }
    out
}

fn bar(step: &Step, path: &str, out: &mut String) {
    let tag = if step.went_well() { "done" } else { "crit" };
    let start = step.started().as_millis();
    let end = start + step.elapsed().as_millis().max(1);
    let _ = writeln!(
        out,
        "    {path} ({}) :{tag}, {start}, {end}",
        step.outcome.word()
    );
    for nested in &step.steps {
        let mark = if nested.is_element() { "" } else { "." };
        bar(nested, &format!("{path}{mark}{}", Label(&nested.name)), out);
    }
}

/// The name of a task at the beginning of a line of a Mermaid chart. Mermaid would read some words there as keywords,
/// so the first character of such a name is written as an entity.
struct Task<'a>(&'a str);

impl Task<'_> {
    const RESERVED: [&'static str; 19] = [
        "accdescr",
        "acctitle",
        "axisformat",
        "call",
        "click",
        "dateformat",
        "excludes",
        "gantt",
        "href",
        "includes",
        "inclusiveenddates",
        "section",
        "tickinterval",
        "title",
        "todaymarker",
        "topaxis",
        "vert",
        "weekday",
        "weekend",
    ];
}

impl fmt::Display for Task<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lower = self.0.to_ascii_lowercase();
        let mut chars = self.0.chars();
        if Self::RESERVED.iter().any(|word| lower.starts_with(word)) {
            if let Some(first) = chars.next() {
                write!(f, "#{};", u32::from(first))?;
            }
        }
        Label(chars.as_str()).fmt(f)
    }
}

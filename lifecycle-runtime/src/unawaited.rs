//! Owners that are dropped without a shutdown while the runner calls somebody's code, so that its report can say so.

use std::cell::RefCell;
use std::time::Duration;

use crate::Step;
use crate::report::Outcome;

/// An owner that was dropped without a shutdown.
#[derive(Debug)]
pub(crate) struct UnawaitedDrop {
    component: String,
    fields: Vec<String>,
}

/// What is collected on a thread.
struct Collected {
    /// How many calls of [`collect`] are on its stack.
    depth: usize,
    dropped: Vec<UnawaitedDrop>,
}

thread_local! {
    static COLLECTED: RefCell<Collected> = const {
        RefCell::new(Collected { depth: 0, dropped: Vec::new() })
    };
}

/// Calls `f`, which does not panic, and returns the owners that it dropped on this thread without a shutdown.
pub(crate) fn collect<T>(f: impl FnOnce() -> T) -> (T, Vec<UnawaitedDrop>) {
    let before = enter();
    let returned = f();
    (returned, leave(before))
}

/// How many were collected before. `None` on a thread that ends, which collects nothing.
fn enter() -> Option<usize> {
    let enter = |collected: &RefCell<Collected>| {
        let mut collected = collected.try_borrow_mut().ok()?;
        collected.depth += 1;
        Some(collected.dropped.len())
    };
    COLLECTED.try_with(enter).ok().flatten()
}

fn leave(before: Option<usize>) -> Vec<UnawaitedDrop> {
    let leave = |collected: &RefCell<Collected>| {
        let mut collected = collected.try_borrow_mut().ok()?;
        let before = before?;
        collected.depth -= 1;
        (collected.dropped.len() > before).then(|| collected.dropped.split_off(before))
    };
    let dropped = COLLECTED.try_with(leave).ok().flatten();
    dropped.unwrap_or_default()
}

/// Notes a drop, if this thread collects them.
pub(crate) fn note(component: &str, fields: &[&str]) {
    // A thread that ends collects nothing.
    let _ = COLLECTED.try_with(|collected| {
        let Ok(mut collected) = collected.try_borrow_mut() else {
            return;
        };
        if collected.depth > 0 {
            let fields = fields.iter().map(|&field| field.to_owned()).collect();
            let component = component.to_owned();
            collected.dropped.push(UnawaitedDrop { component, fields });
        }
    });
}

/// The rows that tell of them, in a row that started at `started`.
pub(crate) fn rows(dropped: Vec<UnawaitedDrop>, started: Duration) -> Vec<Step> {
    let row = |owner: UnawaitedDrop| {
        let why = match owner.fields.is_empty() {
            true => "it was dropped without a shutdown".to_owned(),
            false => format!(
                "it was dropped without a shutdown, which left {}",
                owner.fields.join(", ")
            ),
        };
        let mut row = Step::outside_plan(owner.component, started, Duration::ZERO, Duration::ZERO);
        row.outcome = Outcome::Aborted;
        row.why = Some(why.into());
        row
    };
    dropped.into_iter().map(row).collect()
}

//! The record of owners that foreign code drops without a shutdown while a runner or the engine calls it, so that the
//! report can show these owners.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use crate::Step;
use crate::report::Outcome;

/// An owner that was dropped without a shutdown.
#[derive(Debug)]
pub(crate) struct UnawaitedDrop {
    component: String,
    fields: Vec<String>,
}

thread_local! {
    /// Two numbers: the calls of [`collect`] on this thread's stack, and the drops in `DROPPED`. They are apart from
    /// `DROPPED`, so that a poll that drops no owner costs two stores.
    static MARKS: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
    static DROPPED: RefCell<Vec<UnawaitedDrop>> = const { RefCell::new(Vec::new()) };
}

/// Calls `f`, which must not panic. If `f` drops owners without a shutdown on this thread, passes them to `lost`.
pub(crate) fn collect<T>(f: impl FnOnce() -> T, lost: impl FnOnce(Vec<UnawaitedDrop>)) -> T {
    let (depth, before) = MARKS.get();
    MARKS.set((depth + 1, before));
    let returned = f();
    let (_, after) = MARKS.replace((depth, before));
    if after > before {
        lost(take(before));
    }
    returned
}

/// Removes from `DROPPED` and returns the drops that were recorded after the first `before` drops.
#[cold]
fn take(before: usize) -> Vec<UnawaitedDrop> {
    let take = |dropped: &RefCell<Vec<_>>| {
        let mut dropped = dropped.try_borrow_mut().ok()?;
        (dropped.len() > before).then(|| dropped.split_off(before))
    };
    let dropped = DROPPED.try_with(take).ok().flatten();
    dropped.unwrap_or_default()
}

/// Records the drop of an owner, if a call of [`collect`] is on this thread's stack.
pub(crate) fn record(component: &str, fields: &[&str]) {
    let (depth, count) = MARKS.get();
    if depth == 0 {
        return;
    }
    // This access fails only while the thread is being destroyed, when no call of `collect` is on its stack.
    let _ = DROPPED.try_with(|dropped| {
        if let Ok(mut dropped) = dropped.try_borrow_mut() {
            let fields = fields.iter().map(|&field| field.to_owned()).collect();
            let component = component.to_owned();
            dropped.push(UnawaitedDrop { component, fields });
            MARKS.set((depth, count + 1));
        }
    });
}

/// Turns dropped owners into rows of a step that started at `started`.
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

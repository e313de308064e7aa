//! Owners dropped without an awaited shutdown, as failures of the test.

use std::cell::RefCell;
use std::thread;

/// An owner that was dropped un-awaited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnawaitedDrop {
    /// The type.
    pub component: String,
    /// The fields that were not cleaned.
    pub fields: Vec<String>,
}

/// Records the un-awaited drops of this thread, until it is dropped: then it panics if there were any
/// that [`take`](Self::take) has not taken.
#[derive(Debug)]
#[must_use = "it records until it is dropped"]
pub struct Drops(());

thread_local! {
    /// `None` while nobody records.
    static DROPS: RefCell<Option<Vec<UnawaitedDrop>>> = const { RefCell::new(None) };
}

/// Turns the un-awaited drops of this thread into a failure of the test that holds what it returns.
///
/// ```
/// use lifecycle_runtime::{GracefulShutdown, ShutdownState, testing};
///
/// #[derive(GracefulShutdown)]
/// #[shutdown(strict)]
/// struct Server {
///     #[shutdown(state)]
///     state: ShutdownState,
/// }
///
/// let drops = testing::record_drops();
/// drop(Server { state: ShutdownState::new() });
/// assert_eq!(drops.take()[0].component, "Server"); // taken, so allowed
/// ```
pub fn record_drops() -> Drops {
    DROPS.with_borrow_mut(|drops| drops.get_or_insert_default().clear());
    Drops(())
}

impl Drops {
    /// What was dropped un-awaited so far; it is allowed then.
    pub fn take(&self) -> Vec<UnawaitedDrop> {
        DROPS.with_borrow_mut(|drops| drops.as_mut().map(std::mem::take).unwrap_or_default())
    }
}

impl Drop for Drops {
    fn drop(&mut self) {
        let drops = DROPS.take().unwrap_or_default();
        assert!(
            drops.is_empty() || thread::panicking(),
            "dropped without an awaited shutdown: {drops:?}"
        );
    }
}

pub(crate) fn dropped(component: &str, fields: &[&str]) {
    // While the thread ends nobody records.
    let _ = DROPS.try_with(|drops| {
        if let Ok(mut drops) = drops.try_borrow_mut() {
            if let Some(drops) = &mut *drops {
                drops.push(UnawaitedDrop {
                    component: component.to_owned(),
                    fields: fields.iter().map(|&field| field.to_owned()).collect(),
                });
            }
        }
    });
}

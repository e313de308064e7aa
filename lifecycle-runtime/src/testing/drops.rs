//! A guard that fails a test if an owner is dropped without an awaited shutdown.

use std::cell::RefCell;
use std::thread;

/// An owner that was dropped without an awaited shutdown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnawaitedDrop {
    /// The name of the owner's type.
    pub component: String,
    /// The names of the owner's fields that were not cleaned.
    pub fields: Vec<String>,
}

/// A guard that records the un-awaited drops of this thread. Dropping the guard panics if there were drops that
/// [`take`](Self::take) did not return.
#[derive(Debug)]
#[must_use = "it records until it is dropped"]
pub struct Drops(());

thread_local! {
    /// The recorded drops. `None` while no guard exists on this thread.
    static DROPS: RefCell<Option<Vec<UnawaitedDrop>>> = const { RefCell::new(None) };
}

/// Starts to record the un-awaited drops of this thread. The returned guard fails the test if there are such drops.
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
    /// Returns the un-awaited drops so far, and removes them, so that they do not fail the test.
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
    // This access fails only while the thread is being destroyed, when it has no guard.
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

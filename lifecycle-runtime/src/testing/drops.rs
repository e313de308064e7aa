//! Test failures for owners that are dropped without an awaited shutdown.

use std::cell::RefCell;
use std::thread;

/// An owner that was dropped without an awaited shutdown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnawaitedDrop {
    /// The name of its type.
    pub component: String,
    /// The fields that were not cleaned.
    pub fields: Vec<String>,
}

/// A guard that records the un-awaited drops of this thread. When it is dropped, it panics if there were any that
/// [`take`](Self::take) did not take.
#[derive(Debug)]
#[must_use = "it records until it is dropped"]
pub struct Drops(());

thread_local! {
    /// `None` while no guard records.
    static DROPS: RefCell<Option<Vec<UnawaitedDrop>>> = const { RefCell::new(None) };
}

/// Starts to record the un-awaited drops of this thread. The returned guard fails the test if there are any.
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
    /// Takes the un-awaited drops so far, which thereby do not fail the test.
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
    // Fails only while the thread is being destroyed, when no guard records.
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

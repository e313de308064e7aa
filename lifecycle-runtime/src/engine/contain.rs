//! Panics of components stop here.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `f`; a panic becomes its message.
///
/// Unwind safety: what a component left broken is only ever given back to that component.
pub(crate) fn contain<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    let mut f = Some(f);
    let mut ended = None;
    contain_by(&mut || ended = f.take().map(|f| f()))?;
    // What did not panic was called, and has ended.
    ended.ok_or_else(String::new)
}

/// [`contain`], compiled once and not for each caller.
pub(super) fn contain_by(f: &mut dyn FnMut()) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(f)).map_err(message)
}

/// The text of a panic's payload.
pub(crate) fn message(payload: Box<dyn Any + Send>) -> String {
    let text = match payload.downcast::<String>() {
        Ok(text) => return *text,
        Err(payload) => match payload.downcast::<&'static str>() {
            Ok(text) => return (*text).to_owned(),
            Err(payload) => payload,
        },
    };
    // A payload may panic when it is dropped; then there is nothing left to say of it.
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(text))) {
        std::mem::forget(again);
    }
    "a panic whose payload is no text".into()
}

/// What became of a task that did not end by itself.
#[cfg(feature = "state-file")]
pub(crate) fn message_of(error: tokio::task::JoinError) -> String {
    match error.try_into_panic() {
        Ok(payload) => format!("panicked: {}", message(payload)),
        Err(error) => error.to_string(),
    }
}

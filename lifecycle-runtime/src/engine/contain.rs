//! Functions that contain panics of foreign code.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `f`, and returns the message of a panic as an error.
///
/// This is unwind safe: a value that a component left broken is only ever given back to that component.
pub(crate) fn contain<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    let mut f = Some(f);
    let mut ended = None;
    contain_by(&mut || ended = f.take().map(|f| f()))?;
    // `ended` is always `Some` here, since `f` did not panic.
    ended.ok_or_else(String::new)
}

/// Implements [`contain`] without generics, so that it is compiled once.
pub(super) fn contain_by(f: &mut dyn FnMut()) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(f)).map_err(message)
}

/// Returns the text of a panic's payload.
pub(crate) fn message(payload: Box<dyn Any + Send>) -> String {
    let text = match payload.downcast::<String>() {
        Ok(text) => return *text,
        Err(payload) => match payload.downcast::<&'static str>() {
            Ok(text) => return (*text).to_owned(),
            Err(payload) => payload,
        },
    };
    // The payload may panic when it is dropped. The payload of that second panic is forgotten instead of dropped.
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(text))) {
        std::mem::forget(again);
    }
    "a panic without a text".into()
}

/// Returns why a task did not end by itself: the message of its panic, or that it was aborted.
#[cfg(feature = "state-file")]
pub(crate) fn message_of(error: tokio::task::JoinError) -> String {
    match error.try_into_panic() {
        Ok(payload) => format!("panicked: {}", message(payload)),
        Err(error) => error.to_string(),
    }
}

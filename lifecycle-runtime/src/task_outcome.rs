//! The traits of the values that a main, a task or a cleanup may return, and that the handle of a task may hold.

use std::borrow::Cow;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;

use crate::{BoxError, Report};

/// A value that a main, a task or a cleanup may return: `()`, a `Result` whose error is `Into<BoxError>`, a
/// [`Report`], an `Option` of these, or `!`.
///
/// A number or a flag does not show whether it means a failure. So this trait is not implemented for them. Only
/// [`TaskOutput`] is, for values that come from the handle of a task.
#[diagnostic::on_unimplemented(
    message = "a cleanup, a main or a task cannot return `{Self}`",
    label = "this does not say whether it succeeded",
    note = "return `()`, a `Report`, or a `Result` whose error is `Into<BoxError>`, such as `Ok::<_, BoxError>(())`",
    note = "to ignore what a call returns, write a closure: `|value| {{ value.close(); }}`",
    note = "`with` may also return a future of one of these; `abort` never waits, so put slow work into `with`"
)]
pub trait TaskOutcome: TaskOutput {}

/// A value that the handle of a task may hold, so that the handle is a [`Component`](crate::Component): a
/// [`TaskOutcome`], or a plain value, which is dropped.
///
/// In nested results, as joining a task gives them, any `Err` is a failure. Implement this trait for a type of your own
/// that a task returns.
#[diagnostic::on_unimplemented(
    message = "a task that returns `{Self}` cannot be waited for: nothing says whether it succeeded",
    label = "this does not say whether it succeeded",
    note = "have the task return `()` or a `Result` whose error is `Into<BoxError>`, or implement `TaskOutput` for `{Self}`"
)]
pub trait TaskOutput {
    /// Returns whether the task succeeded.
    ///
    /// # Errors
    ///
    /// The error of the task.
    fn into_outcome(self) -> Result<(), BoxError>;
}

impl TaskOutcome for () {}
impl<T: TaskOutcome, E: Into<BoxError>> TaskOutcome for Result<T, E> {}
impl<T: TaskOutcome> TaskOutcome for Option<T> {}
impl TaskOutcome for Report {}
impl TaskOutcome for Infallible {}
impl TaskOutcome for Never {}

impl<T: TaskOutput, E: Into<BoxError>> TaskOutput for Result<T, E> {
    fn into_outcome(self) -> Result<(), BoxError> {
        self.map_err(Into::into)?.into_outcome()
    }
}

impl TaskOutput for Report {
    fn into_outcome(self) -> Result<(), BoxError> {
        self.into_result().map(drop).map_err(BoxError::from)
    }
}

impl TaskOutput for Never {
    fn into_outcome(self) -> Result<(), BoxError> {
        self
    }
}

impl TaskOutput for Infallible {
    fn into_outcome(self) -> Result<(), BoxError> {
        match self {}
    }
}

impl<T: TaskOutput> TaskOutput for Option<T> {
    fn into_outcome(self) -> Result<(), BoxError> {
        self.map_or(Ok(()), T::into_outcome)
    }
}

/// Implements `TaskOutput` for types whose values cannot mean a failure.
macro_rules! value {
    ($($value:ty),+ $(,)?) => {$(
        impl TaskOutput for $value {
            fn into_outcome(self) -> Result<(), BoxError> {
                Ok(())
            }
        }
    )+};
}

value!(
    (),
    bool,
    char,
    u8,
    u16,
    u32,
    u64,
    u128,
    usize,
    i8,
    i16,
    i32,
    i64,
    i128,
    isize,
    f32,
    f64,
    String,
    &str,
    Cow<'_, str>,
    PathBuf,
    std::time::Duration,
    std::time::Instant,
    tokio::time::Instant,
);

macro_rules! holder {
    ($($holder:ty),+ $(,)?) => {$(
        impl<T> TaskOutput for $holder {
            fn into_outcome(self) -> Result<(), BoxError> {
                Ok(())
            }
        }
    )+};
}

holder!(Vec<T>, Box<T>, Arc<T>);

macro_rules! tuple {
    ($($T:ident),+) => {
        impl<$($T),+> TaskOutput for ($($T,)+) {
            fn into_outcome(self) -> Result<(), BoxError> {
                Ok(())
            }
        }
    };
}

tuple!(A, B);
tuple!(A, B, C);
tuple!(A, B, C, D);

/// The type `!`. On stable Rust this type can only be named as the return type of a function.
type Never = <fn() -> ! as Returns>::Output;

/// A function type whose return type can be named.
pub trait Returns {
    /// The return type of the function type.
    type Output;
}

impl<T> Returns for fn() -> T {
    type Output = T;
}

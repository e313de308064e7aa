//! What a main or a task may return.

use crate::BoxError;

/// What a main or a task may return: `()`, a `Result` whose error is `Into<BoxError>`, or nothing ever (`!`).
#[diagnostic::on_unimplemented(
    message = "a main or a task cannot return `{Self}`",
    label = "neither `()` nor a `Result`",
    note = "return `()`, or a `Result` whose error is `Into<BoxError>`: `Ok::<_, BoxError>(())`"
)]
pub trait TaskOutcome {
    /// Whether it succeeded.
    ///
    /// # Errors
    ///
    /// What went wrong.
    fn into_outcome(self) -> Result<(), BoxError>;
}

impl TaskOutcome for () {
    fn into_outcome(self) -> Result<(), BoxError> {
        Ok(())
    }
}

impl<T: TaskOutcome, E: Into<BoxError>> TaskOutcome for Result<T, E> {
    fn into_outcome(self) -> Result<(), BoxError> {
        self.map_err(Into::into)?.into_outcome()
    }
}

impl TaskOutcome for Never {
    fn into_outcome(self) -> Result<(), BoxError> {
        self
    }
}

/// `!`, which cannot be named yet but as what such a function returns.
type Never = <fn() -> ! as Returns>::Output;

/// What a function returns.
pub trait Returns {
    /// It.
    type Output;
}

impl<T> Returns for fn() -> T {
    type Output = T;
}

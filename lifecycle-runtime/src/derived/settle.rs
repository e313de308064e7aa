//! What a `with = …` returns, made one kind: sync or async, and whatever [`TaskOutcome`] is.
//!
//! Which it is, method resolution finds by autoref: the call is made on `&&Kind<T>`, for which a
//! method of `&Kind<T>` comes before one of `Kind<T>`. The last of each row says what is allowed.

use std::future::{Future, Ready, ready};
use std::marker::PhantomData;

use crate::{BoxError, TaskOutcome};

/// The type of a value, without the value.
#[derive(Debug)]
pub struct Kind<T: ?Sized>(PhantomData<fn() -> PhantomData<T>>);

/// The kind of `value`.
pub fn kind<T>(_value: &T) -> Kind<T> {
    Kind(PhantomData)
}

/// A future is awaited…
pub trait WhenFuture<T> {
    /// The future to await.
    fn __awaited(&self, value: T) -> T;
}

impl<T: Future> WhenFuture<T> for &Kind<T> {
    fn __awaited(&self, value: T) -> T {
        value
    }
}

/// …and anything else is ready.
pub trait WhenReady<T> {
    /// The future to await.
    fn __awaited(&self, value: T) -> Ready<T>;
}

impl<T> WhenReady<T> for Kind<T> {
    fn __awaited(&self, value: T) -> Ready<T> {
        ready(value)
    }
}

/// Anything that says whether it succeeded is asked…
pub trait WhenOutcome<T> {
    /// Whether the cleanup succeeded.
    ///
    /// # Errors
    ///
    /// What went wrong.
    fn __settled(&self, value: T) -> Result<(), BoxError>;
}

impl<T: TaskOutcome> WhenOutcome<T> for &&Kind<T> {
    fn __settled(&self, value: T) -> Result<(), BoxError> {
        value.into_outcome()
    }
}

/// …of a result with any other value only the error is looked at…
pub trait WhenResult<T> {
    /// Whether the cleanup succeeded.
    ///
    /// # Errors
    ///
    /// What went wrong.
    fn __settled(&self, value: T) -> Result<(), BoxError>;
}

impl<T, E: Into<BoxError>> WhenResult<Result<T, E>> for &Kind<Result<T, E>> {
    fn __settled(&self, value: Result<T, E>) -> Result<(), BoxError> {
        value.map(drop).map_err(Into::into)
    }
}

/// …and nothing else is allowed.
pub trait WhenOther<T> {
    /// Never called: what may be returned is settled above.
    ///
    /// # Errors
    ///
    /// Never.
    fn __settled(&self, value: T) -> Result<(), BoxError>
    where
        T: Returnable;
}

impl<T> WhenOther<T> for Kind<T> {
    fn __settled(&self, _value: T) -> Result<(), BoxError>
    where
        T: Returnable,
    {
        Ok(())
    }
}

/// Says what a cleanup may return, where it returns something else. Unlike [`TaskOutcome`] it has no implementation for
/// results, so that the error is about what was returned and not about a bound of that.
#[diagnostic::on_unimplemented(
    message = "a cleanup cannot return `{Self}`",
    label = "neither `()`, a `Report`, nor a `Result` whose error converts into `BoxError`",
    note = "`with = …` may return `()`, a `Report`, a `Result` whose error is `Into<BoxError>`, or a future of one of them",
    note = "to ignore what it returns, write a closure: `|value| {{ value.close(); }}`"
)]
pub trait Returnable {}

impl Returnable for () {}
impl Returnable for crate::Report {}

/// Whether a field is the last owner of what it holds.
pub trait WhenArc {
    /// Whether nobody else holds it.
    fn __sole(&mut self) -> bool;
}

/// A field, borrowed to be asked.
#[derive(Debug)]
pub struct Held<'a, T: ?Sized>(pub &'a mut T);

impl<T: ?Sized> WhenArc for &mut Held<'_, std::sync::Arc<T>> {
    fn __sole(&mut self) -> bool {
        std::sync::Arc::get_mut(self.0).is_some()
    }
}

impl<T: ?Sized> WhenArc for &mut Held<'_, Option<std::sync::Arc<T>>> {
    fn __sole(&mut self) -> bool {
        self.0
            .as_mut()
            .is_none_or(|held| std::sync::Arc::get_mut(held).is_some())
    }
}

/// What is not shared is owned alone.
pub trait WhenOwned {
    /// Whether nobody else holds it.
    fn __sole(&mut self) -> bool;
}

impl<T: ?Sized> WhenOwned for Held<'_, T> {
    fn __sole(&mut self) -> bool {
        true
    }
}

/// Settles a call, whatever its kind. Awaits.
#[doc(hidden)]
#[macro_export]
macro_rules! __lifecycle_settle {
    ($call:expr) => {{
        #[allow(unused_imports)] // which of them is used depends on the type
        use $crate::__private::{
            WhenFuture as _, WhenOther as _, WhenOutcome as _, WhenReady as _, WhenResult as _,
        };
        let value = $call;
        let value = (&&$crate::__private::kind(&value)).__awaited(value).await;
        (&&&$crate::__private::kind(&value)).__settled(value)
    }};
}

/// Settles a call that is not a future.
#[doc(hidden)]
#[macro_export]
macro_rules! __lifecycle_settle_now {
    ($call:expr) => {{
        #[allow(unused_imports)] // which of them is used depends on the type
        use $crate::__private::{WhenOther as _, WhenOutcome as _, WhenResult as _};
        let value = $call;
        (&&&$crate::__private::kind(&value)).__settled(value)
    }};
}

/// Whether a field is the last owner of what it holds.
#[doc(hidden)]
#[macro_export]
macro_rules! __lifecycle_sole {
    ($field:expr) => {{
        #[allow(unused_imports)] // which of them is used depends on the type
        use $crate::__private::{WhenArc as _, WhenOwned as _};
        (&mut &mut $crate::__private::Held($field)).__sole()
    }};
}

//! The conversion of what a `with = …` returns. A value or a future, of any [`TaskOutcome`], becomes one result.
//!
//! Autoref in method resolution selects the conversion. The call is made on `&&Kind<T>`, for which a method of
//! `&Kind<T>` takes precedence over one of `Kind<T>`. The last trait of each group holds the compile error for types
//! that are not allowed.

use std::future::{Future, Ready, ready};
use std::marker::PhantomData;

use crate::{BoxError, TaskOutcome};

/// The type of a value, without the value.
#[derive(Debug)]
pub struct Kind<T: ?Sized>(PhantomData<fn() -> PhantomData<T>>);

/// Returns the kind of `value`.
pub fn kind<T>(_value: &T) -> Kind<T> {
    Kind(PhantomData)
}

/// The case of a future, which is awaited.
pub trait WhenFuture<T> {
    /// Returns the future that the step awaits.
    fn __awaited(&self, value: T) -> T;
}

impl<T: Future> WhenFuture<T> for &Kind<T> {
    fn __awaited(&self, value: T) -> T {
        value
    }
}

/// The case of a value that is not a future, so that nothing has to be awaited.
pub trait WhenReady<T> {
    /// Returns the future that the step awaits.
    fn __awaited(&self, value: T) -> Ready<T>;
}

impl<T> WhenReady<T> for Kind<T> {
    fn __awaited(&self, value: T) -> Ready<T> {
        ready(value)
    }
}

/// The case of a [`TaskOutcome`], whose value shows whether the cleanup succeeded.
pub trait WhenOutcome<T> {
    /// Returns whether the cleanup succeeded.
    ///
    /// # Errors
    ///
    /// The error with which the cleanup failed.
    fn __settled(&self, value: T) -> Result<(), BoxError>;
}

impl<T: TaskOutcome> WhenOutcome<T> for &&Kind<T> {
    fn __settled(&self, value: T) -> Result<(), BoxError> {
        value.into_outcome()
    }
}

/// The case of a `Result` whose value is no [`TaskOutcome`]. Only its error counts.
pub trait WhenResult<T> {
    /// Returns whether the cleanup succeeded.
    ///
    /// # Errors
    ///
    /// The error with which the cleanup failed.
    fn __settled(&self, value: T) -> Result<(), BoxError>;
}

impl<T, E: Into<BoxError>> WhenResult<Result<T, E>> for &Kind<Result<T, E>> {
    fn __settled(&self, value: Result<T, E>) -> Result<(), BoxError> {
        value.map(drop).map_err(Into::into)
    }
}

/// The case of types that are not allowed.
pub trait WhenOther<T> {
    /// This method is never called: values of the allowed types use the cases above.
    ///
    /// # Errors
    ///
    /// There is no error, since nothing calls this method.
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

/// A bound whose compile error lists what a cleanup may return. Unlike [`TaskOutcome`] this trait has no implementation
/// for results, so that the error is about the returned type and not about a bound of it.
#[diagnostic::on_unimplemented(
    message = "a cleanup cannot return `{Self}`",
    label = "neither `()`, a `Report`, nor a `Result` whose error converts into `BoxError`",
    note = "`with = …` may return `()`, a `Report`, a `Result` whose error is `Into<BoxError>`, or a future of one of them",
    note = "to ignore what it returns, write a closure: `|value| {{ value.close(); }}`"
)]
pub trait Returnable {}

impl Returnable for () {}
impl Returnable for crate::Report {}

/// The case of an `Arc`, which may have other owners.
pub trait WhenArc {
    /// Returns whether the field is the only owner of its value.
    fn __is_sole_owner(&mut self) -> bool;
}

/// A field, borrowed to find out whether it is the only owner of its value.
#[derive(Debug)]
pub struct Held<'a, T: ?Sized>(pub &'a mut T);

impl<T: ?Sized> WhenArc for &mut Held<'_, std::sync::Arc<T>> {
    fn __is_sole_owner(&mut self) -> bool {
        std::sync::Arc::get_mut(self.0).is_some()
    }
}

impl<T: ?Sized> WhenArc for &mut Held<'_, Option<std::sync::Arc<T>>> {
    fn __is_sole_owner(&mut self) -> bool {
        self.0
            .as_mut()
            .is_none_or(|held| std::sync::Arc::get_mut(held).is_some())
    }
}

/// The case of a value that is not shared.
pub trait WhenOwned {
    /// Returns whether the field is the only owner of its value.
    fn __is_sole_owner(&mut self) -> bool;
}

impl<T: ?Sized> WhenOwned for Held<'_, T> {
    fn __is_sole_owner(&mut self) -> bool {
        true
    }
}

/// Converts what a call returned into a result. If the call returned a future, awaits it.
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

/// Converts what a call returned, which is not a future, into a result.
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

/// Returns whether a field is the only owner of its value.
#[doc(hidden)]
#[macro_export]
macro_rules! __lifecycle_is_sole_owner {
    ($field:expr) => {{
        #[allow(unused_imports)] // which of them is used depends on the type
        use $crate::__private::{WhenArc as _, WhenOwned as _};
        (&mut &mut $crate::__private::Held($field)).__is_sole_owner()
    }};
}

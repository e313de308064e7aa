//! What a `with = …` returns, made one kind: sync or async, and `()`, a report or a result.
//!
//! Which it is, method resolution finds by autoref: the call is made on `&&Kind<T>`, for which a
//! method of `&Kind<T>` comes before one of `Kind<T>`. The last of each row says what is allowed.

use std::future::{Future, Ready, ready};
use std::marker::PhantomData;

use crate::{BoxError, Report};

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

/// What a cleanup may yield.
#[diagnostic::on_unimplemented(
    message = "a cleanup cannot yield `{Self}`",
    label = "neither `()`, a `Report`, nor a `Result` whose error converts into `BoxError`",
    note = "`with = …` may return `()`, a `Report`, a `Result` whose error is `Into<BoxError>`, or a future of one of them",
    note = "to ignore what it returns, write a closure: `|value| {{ value.close(); }}`"
)]
pub trait Yields {
    /// Whether the cleanup succeeded.
    ///
    /// # Errors
    ///
    /// What went wrong.
    fn settled(self) -> Result<(), BoxError>;
}

impl Yields for () {
    fn settled(self) -> Result<(), BoxError> {
        Ok(())
    }
}

impl Yields for Report {
    fn settled(self) -> Result<(), BoxError> {
        self.into_result().map(drop).map_err(BoxError::from)
    }
}

/// Results of results count too, as joining a task gives.
pub trait WhenNested<T> {
    /// Whether the cleanup succeeded.
    ///
    /// # Errors
    ///
    /// What went wrong.
    fn __settled(&self, value: T) -> Result<(), BoxError>;
}

impl<T, E, F> WhenNested<Result<Result<T, E>, F>> for &&Kind<Result<Result<T, E>, F>>
where
    E: Into<BoxError>,
    F: Into<BoxError>,
{
    fn __settled(&self, value: Result<Result<T, E>, F>) -> Result<(), BoxError> {
        value.map_err(Into::into)?.map(drop).map_err(Into::into)
    }
}

impl<E: Into<BoxError>> WhenNested<Result<Report, E>> for &&Kind<Result<Report, E>> {
    fn __settled(&self, value: Result<Report, E>) -> Result<(), BoxError> {
        value.map_err(Into::into)?.settled()
    }
}

/// A result's value is not looked at.
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

/// All the rest has to be [`Yields`].
pub trait WhenYields<T> {
    /// Whether the cleanup succeeded.
    ///
    /// # Errors
    ///
    /// What went wrong.
    fn __settled(&self, value: T) -> Result<(), BoxError>
    where
        T: Yields;
}

impl<T> WhenYields<T> for Kind<T> {
    fn __settled(&self, value: T) -> Result<(), BoxError>
    where
        T: Yields,
    {
        value.settled()
    }
}

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
            WhenFuture as _, WhenNested as _, WhenReady as _, WhenResult as _, WhenYields as _,
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
        use $crate::__private::{WhenNested as _, WhenResult as _, WhenYields as _};
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

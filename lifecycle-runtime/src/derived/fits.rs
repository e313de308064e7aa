//! Explains why a function of `with = path` does not fit the value that the step passes to it. The compiler reports
//! only that the types differ. This code adds an error that shows what to write instead.
//!
//! As in `settle`, autoref in method resolution selects the case. The check is placed after the call, where every type
//! is known.

use std::marker::PhantomData;
use std::sync::Arc;

/// A function, and the value that is passed to it by reference.
#[derive(Debug)]
pub struct FunctionAndValue<F, T: ?Sized>(
    PhantomData<fn() -> F>,
    PhantomData<fn() -> PhantomData<T>>,
);

/// Records the types of a function and of the value that is passed to it.
pub fn types_of_call<F, T: ?Sized>(_f: &F, _value: &T) -> FunctionAndValue<F, T> {
    FunctionAndValue(PhantomData, PhantomData)
}

/// A function of one argument, with any return type.
pub trait Takes<A> {}

impl<F: FnOnce(A) -> R, A, R> Takes<A> for F {}

/// A value that other code may use at the same time, so that it must be locked.
pub trait Locked {
    /// The value behind the lock.
    type Inside;
}

macro_rules! locked {
    ($($lock:ty),*) => {$(
        impl<T> Locked for $lock {
            type Inside = T;
        }

        impl<T> Locked for Arc<$lock> {
            type Inside = T;
        }
    )*};
}

locked!(
    std::sync::Mutex<T>,
    std::sync::RwLock<T>,
    tokio::sync::Mutex<T>,
    tokio::sync::RwLock<T>
);

/// The case of a function that consumes the value.
pub trait WhenConsumes<T> {
    /// A method whose bound no type meets, so that a call does not compile.
    fn __fits(&self)
    where
        T: Consumed;
}

impl<F: Takes<T>, T> WhenConsumes<T> for &&&FunctionAndValue<F, T> {
    fn __fits(&self)
    where
        T: Consumed,
    {
    }
}

/// A bound that no type meets, so that the compiler prints its message.
#[diagnostic::on_unimplemented(
    message = "this function consumes the `{Self}`, but a step passes `&mut {Self}`",
    label = "`take` is missing, which moves the value out",
    note = "make the field an `Option<{Self}>` and write `take` beside the function: `#[shutdown(take, with = …)]`"
)]
pub trait Consumed {}

/// The case of a function that takes `&mut` to the value behind a lock.
pub trait WhenLockedMut<T> {
    /// A method whose bound no type meets, so that a call does not compile.
    fn __fits(&self)
    where
        T: Unlocked;
}

impl<F, T: Locked> WhenLockedMut<T> for &&FunctionAndValue<F, T>
where
    F: for<'a> Takes<&'a mut T::Inside>,
{
    fn __fits(&self)
    where
        T: Unlocked,
    {
    }
}

/// The case of a function that takes `&` to the value behind a lock.
pub trait WhenLocked<T> {
    /// A method whose bound no type meets, so that a call does not compile.
    fn __fits(&self)
    where
        T: Unlocked;
}

impl<F, T: Locked> WhenLocked<T> for &FunctionAndValue<F, T>
where
    F: for<'a> Takes<&'a T::Inside>,
{
    fn __fits(&self)
    where
        T: Unlocked,
    {
    }
}

/// A bound that no type meets, so that the compiler prints its message.
#[diagnostic::on_unimplemented(
    message = "this function takes the value inside the `{Self}`, which must be locked first",
    label = "nothing locks it",
    note = "lock it in a closure: with tokio's `Mutex`, `with = async |value| value.lock().await.close().await`",
    note = "a lock of std must not be held while something is awaited: if the function is async, use tokio's"
)]
pub trait Unlocked {}

/// The case of all other functions. The compiler's own error is enough for them.
pub trait WhenFits {
    /// A method that does nothing: the function fits, or the compiler reports that it does not.
    fn __fits(&self) {}
}

impl<F, T: ?Sized> WhenFits for FunctionAndValue<F, T> {}

/// Calls a function with a value that it borrows.
#[doc(hidden)]
#[macro_export]
macro_rules! __lifecycle_call_borrowed {
    ($function:expr, $value:expr) => {{
        #[allow(unused_imports)] // which of them is used depends on the types
        use $crate::__private::{
            WhenConsumes as _, WhenFits as _, WhenLocked as _, WhenLockedMut as _,
        };
        let function = $function;
        let types = $crate::__private::types_of_call(&function, &*$value);
        let returned = function($value);
        (&&&&types).__fits();
        returned
    }};
}

//! Explains a function of `with = path` that takes something else than the value the step lends it. The compiler says
//! that the types differ; what to write instead is said here, in an error beside that.
//!
//! As in `settle`, method resolution finds by autoref what is the case. It is asked after the call, when every type is
//! known.

use std::marker::PhantomData;
use std::sync::Arc;

/// A function, and the value that it is called with by reference.
#[derive(Debug)]
pub struct Lent<F, T: ?Sized>(PhantomData<fn() -> F>, PhantomData<fn() -> PhantomData<T>>);

/// Notes the types of a call.
pub fn lent<F, T: ?Sized>(_f: &F, _value: &T) -> Lent<F, T> {
    Lent(PhantomData, PhantomData)
}

/// A function of one argument, whatever it returns.
pub trait Takes<A> {}

impl<F: FnOnce(A) -> R, A, R> Takes<A> for F {}

/// A value that others may use meanwhile, so that it has to be locked.
pub trait Locked {
    /// What is behind the lock.
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

/// A function that consumes the value…
pub trait WhenConsumes<T> {
    /// Never compiles.
    fn __fits(&self)
    where
        T: Consumed;
}

impl<F: Takes<T>, T> WhenConsumes<T> for &&&Lent<F, T> {
    fn __fits(&self)
    where
        T: Consumed,
    {
    }
}

/// Nothing is this.
#[diagnostic::on_unimplemented(
    message = "this function consumes the `{Self}`, but a step only lends it, as `&mut {Self}`",
    label = "`take` is missing, which moves the value out",
    note = "make the field an `Option<{Self}>` and write `take` beside the function: `#[shutdown(take, with = …)]`"
)]
pub trait Consumed {}

/// …one that takes what is behind a lock, mutably…
pub trait WhenLockedMut<T> {
    /// Never compiles.
    fn __fits(&self)
    where
        T: Unlocked;
}

impl<F, T: Locked> WhenLockedMut<T> for &&Lent<F, T>
where
    F: for<'a> Takes<&'a mut T::Inside>,
{
    fn __fits(&self)
    where
        T: Unlocked,
    {
    }
}

/// …or not…
pub trait WhenLocked<T> {
    /// Never compiles.
    fn __fits(&self)
    where
        T: Unlocked;
}

impl<F, T: Locked> WhenLocked<T> for &Lent<F, T>
where
    F: for<'a> Takes<&'a T::Inside>,
{
    fn __fits(&self)
    where
        T: Unlocked,
    {
    }
}

/// Nothing is this.
#[diagnostic::on_unimplemented(
    message = "this function takes what is inside the `{Self}`, which has to be locked first",
    label = "nothing locks it",
    note = "lock it in a closure: with tokio's `Mutex`, `with = async |value| value.lock().await.close().await`",
    note = "a lock of std must not be held while something is awaited: if the function is async, use tokio's"
)]
pub trait Unlocked {}

/// …and any other, of which the compiler says what there is to say.
pub trait WhenFits {
    /// Does nothing.
    fn __fits(&self) {}
}

impl<F, T: ?Sized> WhenFits for Lent<F, T> {}

/// Calls a function with a value that it borrows.
#[doc(hidden)]
#[macro_export]
macro_rules! __lifecycle_lend {
    ($function:expr, $value:expr) => {{
        #[allow(unused_imports)] // which of them is used depends on the types
        use $crate::__private::{
            WhenConsumes as _, WhenFits as _, WhenLocked as _, WhenLockedMut as _,
        };
        let function = $function;
        let lent = $crate::__private::lent(&function, &*$value);
        let returned = function($value);
        (&&&&lent).__fits();
        returned
    }};
}

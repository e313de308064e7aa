//! The functions that call the closures in attributes. They tie the lifetime of a returned value to that of the
//! argument.

use crate::Context;

/// Calls a closure. The lifetime of its return value is tied to its argument.
pub fn call<'a, T: ?Sized, R>(f: impl FnOnce(&'a mut T) -> R, value: &'a mut T) -> R {
    f(value)
}

/// Calls a closure with the context; see [`call`].
pub fn call_cx<'a, T: ?Sized, R>(
    f: impl FnOnce(&'a mut T, &'a Context) -> R,
    value: &'a mut T,
    cx: &'a Context,
) -> R {
    f(value, cx)
}

/// Calls a closure that consumes the value.
pub fn call_owned<T, R>(f: impl FnOnce(T) -> R, value: T) -> R {
    f(value)
}

/// Calls a closure that consumes the value, with the context.
pub fn call_owned_cx<'a, T, R>(
    f: impl FnOnce(T, &'a Context) -> R,
    value: T,
    cx: &'a Context,
) -> R {
    f(value, cx)
}

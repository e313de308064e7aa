//! Calls of the closures that attributes give, through functions that tie the lifetimes.

use crate::Context;

/// Calls a closure, with the lifetime of what it returns tied to its argument's.
pub fn call<'a, T: ?Sized, R>(f: impl FnOnce(&'a mut T) -> R, value: &'a mut T) -> R {
    f(value)
}

/// Like [`call`], with the context.
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

/// Like [`call_owned`], with the context.
pub fn call_owned_cx<'a, T, R>(
    f: impl FnOnce(T, &'a Context) -> R,
    value: T,
    cx: &'a Context,
) -> R {
    f(value, cx)
}

//! Timeouts, and what `self` means in those that are expressions.

use proc_macro2::Span;

use super::calls;
use crate::ast::{Field, Input};
use crate::attr::{Slot, Time};
use crate::errors::Errors;
use crate::plan::{Budget, Known, This};

/// What `self` means in a timeout: in a struct the value itself; in a variant, whose fields alone have names there, a
/// field of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Struct,
    Variant,
}

/// The timeout of the whole type.
pub(super) fn total<'a>(input: &'a Input<'a>) -> Option<(Budget<'a>, Span)> {
    let timeout = input.attrs.timeout.value()?;
    let budget = as_budget(timeout, &input.attrs.at_most, |_| This::Whole);
    Some((budget, timeout.span()))
}

/// The timeout of a step.
pub(super) fn step<'a>(
    field: &'a Field<'a>,
    scope: calls::Scope<'_>,
    of: Of,
    errors: &mut Errors,
) -> Option<Budget<'a>> {
    let timeout = field.attrs.timeout.value()?;
    let this = |expr: &_| match of {
        Of::Struct => This::Whole,
        Of::Variant => This::Fields(calls::in_variant(expr, &scope, errors)),
    };
    Some(as_budget(timeout, &field.attrs.at_most, this))
}

fn as_budget<'a>(
    timeout: &'a Time,
    at_most: &'a Slot<Time>,
    this: impl FnOnce(&syn::Expr) -> This,
) -> Budget<'a> {
    match known(timeout) {
        Ok(known) => Budget::Known(known),
        Err(expr) => {
            let at_most = at_most.value().and_then(|limit| known(limit).ok());
            Budget::Computed {
                expr,
                this: this(expr),
                at_most,
            }
        }
    }
}

fn known(time: &Time) -> Result<Known<'_>, &syn::Expr> {
    match time {
        Time::Literal { time, .. } => Ok(Known::Time(*time)),
        Time::Const(expr) => Ok(Known::Const(expr)),
        Time::Computed(expr) => Err(expr),
    }
}

//! The checks of timeouts. They also find out what `self` means in timeouts that are expressions.

use proc_macro2::Span;

use super::calls;
use crate::ast::{Field, Input};
use crate::attr::{Slot, Time};
use crate::errors::Errors;
use crate::plan::{Budget, KnownTime, SelfMeaning};

/// The container of a step's field. It decides what `self` means in the step's timeout: in a struct the value, in a
/// variant only the fields.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Container {
    Struct,
    Variant,
}

/// Returns the timeout of the whole type, and the span at which it is written.
pub(super) fn total<'a>(input: &'a Input<'a>) -> Option<(Budget<'a>, Span)> {
    let timeout = input.attrs.timeout.value()?;
    let budget = as_budget(timeout, &input.attrs.at_most, |_| SelfMeaning::WholeValue);
    Some((budget, timeout.span()))
}

/// Returns the timeout of a step, if it states one.
pub(super) fn step<'a>(
    field: &'a Field<'a>,
    scope: calls::Scope<'_>,
    container: Container,
    errors: &mut Errors,
) -> Option<Budget<'a>> {
    let timeout = field.attrs.timeout.value()?;
    let self_meaning = |expr: &_| match container {
        Container::Struct => SelfMeaning::WholeValue,
        Container::Variant => SelfMeaning::Fields(calls::in_variant(expr, &scope, errors)),
    };
    Some(as_budget(timeout, &field.attrs.at_most, self_meaning))
}

fn as_budget<'a>(
    timeout: &'a Time,
    at_most: &'a Slot<Time>,
    self_meaning: impl FnOnce(&syn::Expr) -> SelfMeaning,
) -> Budget<'a> {
    match known(timeout) {
        Ok(known) => Budget::Constant(known),
        Err(expr) => {
            let at_most = at_most.value().and_then(|limit| known(limit).ok());
            Budget::Computed {
                expr,
                self_meaning: self_meaning(expr),
                at_most,
            }
        }
    }
}

fn known(time: &Time) -> Result<KnownTime<'_>, &syn::Expr> {
    match time {
        Time::Literal { time, .. } => Ok(KnownTime::Literal(*time)),
        Time::Const(expr) => Ok(KnownTime::Const(expr)),
        Time::Computed(expr) => Err(expr),
    }
}

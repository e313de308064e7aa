//! Timeouts, and what `self` means in those that are expressions.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote_spanned};

use super::calls;
use crate::ast::{Field, Input};
use crate::attr::{Slot, Time};
use crate::errors::Errors;
use crate::mentions::{self, Mention};
use crate::plan::{Budget, Known};

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
    let this = |tokens| of_the_struct(tokens);
    Some((
        as_budget(timeout, &input.attrs.at_most, this),
        timeout.span(),
    ))
}

/// The timeout of a step.
pub(super) fn step<'a>(
    field: &'a Field<'a>,
    scope: calls::Scope<'_>,
    of: Of,
    errors: &mut Errors,
) -> Option<Budget<'a>> {
    let timeout = field.attrs.timeout.value()?;
    let rewrite = |tokens| match of {
        Of::Struct => of_the_struct(tokens),
        Of::Variant => calls::in_variant(tokens, &scope, errors),
    };
    Some(as_budget(timeout, &field.attrs.at_most, rewrite))
}

fn as_budget<'a>(
    timeout: &'a Time,
    at_most: &'a Slot<Time>,
    rewrite: impl FnOnce(TokenStream) -> TokenStream,
) -> Budget<'a> {
    match known(timeout) {
        Ok(known) => Budget::Known(known),
        Err(expr) => {
            let at_most = at_most.value().and_then(|limit| known(limit).ok());
            Budget::Computed {
                expr: rewrite(expr.to_token_stream()),
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

/// `self` in the timeout of a struct: the local that the generated method binds.
fn of_the_struct(tokens: TokenStream) -> TokenStream {
    mentions::rewrite(tokens, &mut |mention| match mention {
        Mention::Bare { span } => {
            let here = Span::mixed_site().located_at(span);
            quote_spanned!(here=> __this)
        }
        Mention::Field { name, span } | Mention::Method { name, span } => {
            let here = Span::mixed_site().located_at(span);
            let member = calls::member(&name, span);
            quote_spanned!(here=> __this.#member)
        }
    })
}

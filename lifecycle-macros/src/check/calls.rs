//! The checks of the functions and closures of `with` and `abort`, and of the fields that those closures capture.

use proc_macro2::Span;
use quote::ToTokens;
use syn::{GenericArgument, PathArguments, Type};

use crate::ast::Field;
use crate::attr::{Call, Closure};
use crate::errors::Errors;
use crate::nearest::nearest;
use crate::plan::{Callee, Captured, Function};
use crate::self_uses::{self, SelfUse};

/// The place of an expression: the fields that it may name, and the step to which it belongs.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub(super) fields: &'a [Field<'a>],
    /// The position of the step's field in `fields`.
    pub(super) step: usize,
    /// The name of the struct or variant in messages.
    pub(super) owner: &'a str,
}

impl Scope<'_> {
    fn step_name(&self) -> &str {
        &self.fields[self.step].name
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| field.name == name)
    }
}

/// Checks the `with` of a step. It is a path, or a closure that takes the value, or a closure that takes the value and
/// the context.
pub(super) fn with<'a>(
    call: &'a Call,
    blocking: bool,
    scope: &Scope<'_>,
    captured: &mut [bool],
    errors: &mut Errors,
) -> Option<Callee<'a>> {
    let span = call.span();
    let closure = match call {
        Call::Path(path) => {
            let function = Function::Path(path);
            return Some(Callee { function, span });
        }
        Call::Closure(closure) => closure,
    };
    let max_args = if blocking { 1 } else { 2 };
    let args = arguments(closure, 1..=max_args, || with_form(blocking), errors)?;
    let captures = if blocking {
        no_captures(closure, scope, errors)
    } else {
        captures(closure, scope, captured, errors)
    };
    Some(Callee {
        function: Function::Closure {
            source: &closure.0,
            captured: captures,
            takes_cx: args == 2,
        },
        span,
    })
}

fn with_form(blocking: bool) -> (&'static str, &'static str) {
    if blocking {
        (
            "a `blocking` step calls `with` with the value alone, without the context",
            "write `|value| …`",
        )
    } else {
        (
            "`with` is called with the value, or with the value and the context",
            "write `|value| …` or `|value, cx| …`",
        )
    }
}

/// Checks the `abort` of a step. It is a path, or a synchronous closure that takes only the value.
pub(super) fn abort<'a>(
    call: &'a Call,
    blocking: bool,
    scope: &Scope<'_>,
    captured: &mut [bool],
    errors: &mut Errors,
) -> Option<Callee<'a>> {
    let span = call.span();
    let closure = match call {
        Call::Path(path) => {
            let function = Function::Path(path);
            return Some(Callee { function, span });
        }
        Call::Closure(closure) => closure,
    };
    let form = || {
        (
            "`abort` is called with the value alone",
            "write `|value| …`",
        )
    };
    arguments(closure, 1..=1, form, errors)?;
    if let Some(asyncness) = &closure.0.asyncness {
        errors.push(
            asyncness.span,
            "`abort` runs synchronously, so its closure cannot be async",
            "remove `async`, and do whatever has to wait in `with`",
        );
        return None;
    }
    Some(Callee {
        function: Function::Closure {
            source: &closure.0,
            captured: if blocking {
                no_captures(closure, scope, errors)
            } else {
                captures(closure, scope, captured, errors)
            },
            takes_cx: false,
        },
        span,
    })
}

/// Returns the number of the closure's arguments. If that number is not allowed, reports it and returns `None`.
fn arguments(
    closure: &Closure,
    allowed: std::ops::RangeInclusive<usize>,
    form: impl FnOnce() -> (&'static str, &'static str),
    errors: &mut Errors,
) -> Option<usize> {
    let count = closure.0.inputs.len();
    if allowed.contains(&count) {
        return Some(count);
    }
    let (what, help) = form();
    let what = format!("{what}, but this closure takes {count} arguments")
        .replace(" 1 arguments", " one argument")
        .replace(" 0 arguments", " no arguments");
    if closure.0.inputs.is_empty() {
        errors.push(closure.0.inputs_begin.span, what, help);
    } else {
        errors.push_over(&closure.0.inputs, what, help);
    }
    None
}

/// Returns the fields that the closure of a step captures. The closure may read fields that are not steps. It cannot
/// read another step's field, since both steps may run at the same time, nor the whole value, which is destructured
/// while steps run.
fn captures(
    closure: &Closure,
    scope: &Scope<'_>,
    captured: &mut [bool],
    errors: &mut Errors,
) -> Vec<Captured> {
    fields(&closure.0, scope, errors, |index, span, errors| {
        if readable(index, span, scope, errors) {
            captured[index] = true;
        }
    })
}

/// Reports every use of `self` in a `blocking` closure. The closure runs on another thread, and may run longer than the
/// shutdown, so it cannot borrow from the value.
fn no_captures(closure: &Closure, scope: &Scope<'_>, errors: &mut Errors) -> Vec<Captured> {
    for self_use in self_uses::find(closure.0.to_token_stream()) {
        errors.push(
            self_use.span(),
            "a `blocking` closure runs on another thread, which may outlive the shutdown: it cannot borrow from `self`",
            format!("keep what it needs inside `{}`, or read it in a step without `blocking`", scope.step_name()),
        );
    }
    Vec::new()
}

/// Returns the fields that a timeout in a variant reads. The timeout may read every field, but not the value as a
/// whole.
pub(super) fn in_variant(
    expr: &syn::Expr,
    scope: &Scope<'_>,
    errors: &mut Errors,
) -> Vec<Captured> {
    fields(expr, scope, errors, |_, _, _| {})
}

/// Returns the fields that an expression reads, and asks `rule` about each. Reports every other use of `self`.
fn fields(
    expr: &impl ToTokens,
    scope: &Scope<'_>,
    errors: &mut Errors,
    mut rule: impl FnMut(usize, Span, &mut Errors),
) -> Vec<Captured> {
    let mut captured = Vec::new();
    for self_use in self_uses::find(expr.to_token_stream()) {
        match self_use {
            SelfUse::Field { name, span } => {
                if let Some(index) = known(&name, span, scope, errors) {
                    rule(index, span, errors);
                    captured.push(Captured { name, index });
                }
            }
            other => whole_value_used(&other, scope, errors),
        }
    }
    captured
}

/// Reports that an expression uses the whole value, and not only one of its fields.
fn whole_value_used(self_use: &SelfUse, scope: &Scope<'_>, errors: &mut Errors) {
    let owner = scope.owner;
    let (span, what) = match self_use {
        SelfUse::Method { name, span } => (
            span,
            format!("`self.{name}(…)` uses all of `{owner}`, but only its fields can be used here"),
        ),
        SelfUse::Field { span, .. } | SelfUse::Bare { span } => (
            span,
            format!("`self` is all of `{owner}`, but only its fields can be used here"),
        ),
    };
    errors.push(
        *span,
        what,
        "use a field, `self.field`, or call a method of that field",
    );
}

fn known(name: &str, span: Span, scope: &Scope<'_>, errors: &mut Errors) -> Option<usize> {
    let found = scope.find(name);
    if found.is_none() {
        let names = scope.fields.iter().map(|field| field.name.as_str());
        let help = match nearest(name, names) {
            Some(near) => format!("did you mean `self.{near}`?"),
            None => format!("name a field of `{}`", scope.owner),
        };
        errors.push(
            span,
            format!("`{}` has no field `{name}`", scope.owner),
            help,
        );
    }
    found
}

fn readable(index: usize, span: Span, scope: &Scope<'_>, errors: &mut Errors) -> bool {
    let field = &scope.fields[index];
    let own = scope.step_name();
    if index == scope.step {
        errors.push(
            span,
            format!("`{own}` is this step's own field, which the closure gets as its argument"),
            "use the closure's argument",
        );
    } else if field.attrs.state.is_given() {
        errors.push(
            span,
            format!(
                "`{}` holds the state of the running shutdown, which a step cannot read",
                field.name
            ),
            "use the context instead: `|value, cx| …`",
        );
    } else if field.attrs.is_step() {
        errors.push(
            span,
            format!("the step `{own}` reads the field of the step `{}`: both may run at the same time, so neither can borrow from the other", field.name),
            "keep what both steps need in a field that is not a step, for instance in an `Arc`",
        );
    } else {
        return true;
    }
    false
}

/// Returns whether the type is written as `Option<…>`, even inside the invisible group that a macro may put around it.
pub(super) fn option_inside(ty: &Type) -> bool {
    match ty {
        Type::Group(group) => option_inside(&group.elem),
        Type::Paren(paren) => option_inside(&paren.elem),
        Type::Path(path) => path.path.segments.last().is_some_and(|last| {
            let one = matches!(&last.arguments, PathArguments::AngleBracketed(args)
                if args.args.len() == 1 && matches!(args.args.first(), Some(GenericArgument::Type(_))));
            last.ident == "Option" && one
        }),
        _ => false,
    }
}

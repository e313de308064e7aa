//! What `with` and `abort` call, and what their closures may mention.

use proc_macro2::Span;
use quote::ToTokens;
use syn::{GenericArgument, PathArguments, Type};

use crate::ast::Field;
use crate::attr::{Call, Closure};
use crate::errors::Errors;
use crate::mentions::{self, Mention};
use crate::nearest::nearest;
use crate::plan::{Callee, Captured, Function};

/// Where an expression stands.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub(super) fields: &'a [Field<'a>],
    /// The field whose step it belongs to.
    pub(super) of: usize,
    pub(super) owner: &'a str,
}

impl Scope<'_> {
    fn own(&self) -> &str {
        &self.fields[self.of].name
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| field.name == name)
    }
}

/// The cleanup of a step: a path, or a closure of the value, or of the value and the context.
pub(super) fn with<'a>(
    call: &'a Call,
    blocking: bool,
    scope: &Scope<'_>,
    lent: &mut [bool],
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
    let most = if blocking { 1 } else { 2 };
    let args = arguments(closure, 1..=most, || with_form(blocking), errors)?;
    let captured = if blocking {
        stands_alone(closure, scope, errors)
    } else {
        lend(closure, scope, lent, errors)
    };
    Some(Callee {
        function: Function::Closure {
            source: &closure.0,
            captured,
            cx: args == 2,
        },
        span,
    })
}

fn with_form(blocking: bool) -> (&'static str, &'static str) {
    if blocking {
        (
            "`with` beside `blocking` is called with the value alone: the context stays behind",
            "write `|value| …`",
        )
    } else {
        (
            "`with` is called with the value, or with the value and the context",
            "write `|value| …` or `|value, cx| …`",
        )
    }
}

/// The forced end of a step: synchronous, of the value alone.
pub(super) fn abort<'a>(
    call: &'a Call,
    blocking: bool,
    scope: &Scope<'_>,
    lent: &mut [bool],
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
            "`abort` forces the end now: it cannot await",
            "remove `async`, and put what takes time into `with`",
        );
        return None;
    }
    Some(Callee {
        function: Function::Closure {
            source: &closure.0,
            captured: if blocking {
                stands_alone(closure, scope, errors)
            } else {
                lend(closure, scope, lent, errors)
            },
            cx: false,
        },
        span,
    })
}

/// A closure is called with so many arguments, never with others.
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
    let what = format!("{what}, but this closure has {count} arguments")
        .replace(" 1 arguments", " one argument")
        .replace(" 0 arguments", " no argument");
    if closure.0.inputs.is_empty() {
        errors.push(closure.0.inputs_begin.span, what, help);
    } else {
        errors.push_over(&closure.0.inputs, what, help);
    }
    None
}

/// The closure of a step may read fields that are no steps: they are lent to it. Steps overlap, so a step's field is
/// the step's alone; and the value as a whole is taken apart while its steps run.
fn lend(
    closure: &Closure,
    scope: &Scope<'_>,
    lent: &mut [bool],
    errors: &mut Errors,
) -> Vec<Captured> {
    fields(&closure.0, scope, errors, |index, span, errors| {
        if readable(index, span, scope, errors) {
            lent[index] = true;
        }
    })
}

/// The closure of a `blocking` step runs on another thread, which may outlive the shutdown: it can borrow nothing.
fn stands_alone(closure: &Closure, scope: &Scope<'_>, errors: &mut Errors) -> Vec<Captured> {
    for mention in mentions::find(closure.0.to_token_stream()) {
        errors.push(
            mention.span(),
            "a `blocking` closure runs on a thread of its own, which may outlive the shutdown: it cannot borrow from `self`",
            format!("keep what it needs inside `{}`, or read it in a step without `blocking`", scope.own()),
        );
    }
    Vec::new()
}

/// In a variant nothing is called `self` but the fields, which its timeouts may read.
pub(super) fn in_variant(
    expr: &syn::Expr,
    scope: &Scope<'_>,
    errors: &mut Errors,
) -> Vec<Captured> {
    fields(expr, scope, errors, |_, _, _| {})
}

/// The fields that an expression reads, each of which is put before `rule`; any other use of `self` is a mistake.
fn fields(
    expr: &impl ToTokens,
    scope: &Scope<'_>,
    errors: &mut Errors,
    mut rule: impl FnMut(usize, Span, &mut Errors),
) -> Vec<Captured> {
    let mut captured = Vec::new();
    for mention in mentions::find(expr.to_token_stream()) {
        match mention {
            Mention::Field { name, span } => {
                if let Some(index) = known(&name, span, scope, errors) {
                    rule(index, span, errors);
                    captured.push(Captured { name, index });
                }
            }
            other => whole(&other, scope, errors),
        }
    }
    captured
}

/// Reports a use of the whole value.
fn whole(mention: &Mention, scope: &Scope<'_>, errors: &mut Errors) {
    let owner = scope.owner;
    let (span, what) = match mention {
        Mention::Method { name, span } => (
            span,
            format!("`self.{name}(…)` needs all of `{owner}`, which is taken apart here"),
        ),
        Mention::Field { span, .. } | Mention::Bare { span } => (
            span,
            format!("`self` is not there as a whole: `{owner}` is taken apart here"),
        ),
    };
    errors.push(
        *span,
        what,
        "name a field instead, `self.field`, and call what it offers",
    );
}

fn known(name: &str, span: Span, scope: &Scope<'_>, errors: &mut Errors) -> Option<usize> {
    let found = scope.find(name);
    if found.is_none() {
        let names = scope.fields.iter().map(|field| field.name.as_str());
        let help = match nearest(name, names) {
            Some(near) => format!("did you mean `self.{near}`?"),
            None => "name a field that has no step of its own".to_owned(),
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
    let own = scope.own();
    if index == scope.of {
        errors.push(
            span,
            format!("`{own}` is the field of this step: the closure has it already"),
            "use the closure's argument",
        );
    } else if field.attrs.state.is_given() {
        errors.push(
            span,
            format!(
                "`{}` is the state of the shutdown, which is running here",
                field.name
            ),
            "ask the context instead: `|value, cx| …`",
        );
    } else if field.attrs.is_step() {
        errors.push(
            span,
            format!("the step `{own}` reads `{}`, which is a step too: steps may overlap, so each has its field alone", field.name),
            "keep what both need in a field without a step, for instance as an `Arc`",
        );
    } else {
        return true;
    }
    false
}

/// Whether the type is written `Option<…>`, also inside the invisible brackets that a macro leaves around it.
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

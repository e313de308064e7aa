//! The readers of keys' values, one reader for each kind of value.

use std::time::Duration;

use proc_macro2::{Ident, Span};
use quote::ToTokens;
use syn::ext::IdentExt as _;
use syn::parse::ParseStream;
use syn::spanned::Spanned;
use syn::{Expr, ExprClosure, ExprLit, ExprPath, ExprUnary, Lit, LitInt, LitStr, Path, UnOp};

use super::constant::is_constant;
use super::entry::RawValue;
use crate::duration;
use crate::errors::Errors;
use crate::keys;

/// The value of `timeout` or `at_most`.
pub(crate) enum Time {
    /// A string such as `"5s"`.
    Literal { time: Duration, text: LitStr },
    /// A constant such as `const { … }` or `Duration::from_secs(5)`. The compiler evaluates the constant, so it can
    /// prove with it that the plan fits its timeout.
    Const(Expr),
    /// An expression that is not constant. It is evaluated at run time.
    Computed(Expr),
}

impl Time {
    pub(crate) fn span(&self) -> Span {
        match self {
            Self::Literal { text, .. } => text.span(),
            Self::Const(expr) | Self::Computed(expr) => expr.span(),
        }
    }
}

/// The function or closure that `with` or `abort` calls.
pub(crate) enum Call {
    Path(ExprPath),
    Closure(Closure),
}

impl Call {
    pub(crate) fn span(&self) -> Span {
        match self {
            Self::Path(path) => path.span(),
            Self::Closure(closure) => closure.0.inputs_begin.span(),
        }
    }
}

pub(crate) struct Closure(pub(crate) ExprClosure);

/// A field that `after` names.
pub(crate) struct Dependency {
    /// The field's name without `r#`, or its index.
    pub(crate) name: String,
    pub(crate) span: Span,
}

/// Checks that a key that takes no value has none.
pub(super) fn flag(key: &Ident, value: RawValue, errors: &mut Errors) -> Option<()> {
    let value = match value {
        RawValue::None => return Some(()),
        RawValue::Expr(expr) => expr.to_token_stream(),
        RawValue::List(list) => list,
        RawValue::Dependencies(_) | RawValue::Invalid => return None,
    };
    errors.push_over(
        value,
        format!("`{key}` takes no value"),
        format!("write `{key}` alone, or remove it"),
    );
    None
}

/// Returns the value of a key that needs an expression.
fn expr(key: &Ident, value: RawValue, errors: &mut Errors) -> Option<Expr> {
    let name = key.unraw().to_string();
    let form = keys::example(&name);
    match value {
        RawValue::Expr(expr) => Some(strip_groups(expr)),
        RawValue::None => {
            errors.push(
                key.span(),
                format!("`{name}` needs a value"),
                format!("write `{form}`"),
            );
            None
        }
        RawValue::List(list) => {
            errors.push_over(
                list,
                format!("`{name}` takes its value after `=`"),
                format!("write `{form}`"),
            );
            None
        }
        RawValue::Dependencies(_) | RawValue::Invalid => None,
    }
}

/// Removes parentheses around an expression, and the invisible group in which a macro passes its `$value:expr`.
fn strip_groups(mut expr: Expr) -> Expr {
    loop {
        expr = match expr {
            Expr::Group(group) => *group.expr,
            Expr::Paren(paren) if paren.attrs.is_empty() => *paren.expr,
            other => return other,
        };
    }
}

pub(super) fn time(key: &Ident, value: RawValue, errors: &mut Errors) -> Option<Time> {
    match expr(key, value, errors)? {
        Expr::Lit(ExprLit { lit, .. }) => literal_time(key, lit, errors),
        Expr::Unary(negative) if is_negative_literal(&negative) => {
            let example = keys::example(&key.to_string());
            errors.push_over(
                negative,
                format!("`{key}` cannot be negative"),
                format!("write `{example}`"),
            );
            None
        }
        constant if is_constant(&constant) => Some(Time::Const(constant)),
        other => Some(Time::Computed(other)),
    }
}

/// Reads a time that must be constant.
pub(super) fn known_time(key: &Ident, value: RawValue, errors: &mut Errors) -> Option<Time> {
    match time(key, value, errors)? {
        Time::Computed(expr) => {
            errors.push_over(
                expr,
                format!("`{key}` must be a constant: the compiler proves the budget with it"),
                format!("write a string, `{key} = \"60s\"`, or a constant, `{key} = LIMIT`"),
            );
            None
        }
        known => Some(known),
    }
}

fn literal_time(key: &Ident, lit: Lit, errors: &mut Errors) -> Option<Time> {
    let text = match lit {
        Lit::Str(text) => text,
        Lit::Int(number) => {
            errors.push(
                number.span(),
                format!("`{key} = {number}` has no unit"),
                format!("write `{key} = \"{number}s\"` for seconds, `{key} = \"{number}ms\"` for milliseconds"),
            );
            return None;
        }
        other => {
            let example = keys::example(&key.to_string());
            errors.push_over(
                other,
                format!("`{key}` must be a duration"),
                format!("write `{example}`"),
            );
            return None;
        }
    };
    match duration::parse(&text.value()) {
        Ok(time) => Some(Time::Literal { time, text }),
        Err(bad) => {
            errors.push(text.span(), bad.what, bad.help);
            None
        }
    }
}

fn is_negative_literal(unary: &ExprUnary) -> bool {
    matches!(unary.op, UnOp::Neg(_)) && matches!(*unary.expr, Expr::Lit(_))
}

pub(super) fn string(key: &Ident, value: RawValue, errors: &mut Errors) -> Option<LitStr> {
    match expr(key, value, errors)? {
        Expr::Lit(ExprLit {
            lit: Lit::Str(text),
            ..
        }) if !text.value().trim().is_empty() => Some(text),
        other => {
            let example = keys::example(&key.to_string());
            errors.push_over(
                other,
                format!(
                    "`{key}` must be a string that is not empty: plans, reports and logs show it"
                ),
                format!("write `{example}`"),
            );
            None
        }
    }
}

pub(super) fn path(key: &Ident, value: RawValue, errors: &mut Errors) -> Option<Path> {
    match expr(key, value, errors)? {
        Expr::Path(ExprPath {
            qself: None, path, ..
        }) if path.segments.iter().all(|s| s.arguments.is_none()) => Some(path),
        Expr::Lit(ExprLit {
            lit: Lit::Str(text),
            ..
        }) => {
            let bare = text.value();
            errors.push(
                text.span(),
                format!("`{key}` is a path, not a string"),
                format!("write `{key} = {bare}`"),
            );
            None
        }
        other => {
            let example = keys::example(&key.unraw().to_string());
            errors.push_over(
                other,
                format!("`{key}` must be a path to `lifecycle_runtime`"),
                format!("write `{example}`"),
            );
            None
        }
    }
}

pub(super) fn integer(key: &Ident, value: RawValue, errors: &mut Errors) -> Option<i32> {
    let expr = expr(key, value, errors)?;
    let (number, negative) = match &expr {
        Expr::Lit(ExprLit {
            lit: Lit::Int(number),
            ..
        }) => (number, false),
        Expr::Unary(unary) if is_negative_literal(unary) => match &*unary.expr {
            Expr::Lit(ExprLit {
                lit: Lit::Int(number),
                ..
            }) => (number, true),
            _ => return not_an_integer(&expr, errors),
        },
        _ => return not_an_integer(&expr, errors),
    };
    let parsed = signed(number, negative);
    if parsed.is_none() {
        errors.push_over(
            &expr,
            format!("`{key}` must be an `i32`"),
            format!("write a whole number from {} to {}", i32::MIN, i32::MAX),
        );
    }
    parsed
}

fn signed(number: &LitInt, negative: bool) -> Option<i32> {
    if !matches!(number.suffix(), "" | "i32") {
        return None;
    }
    let value: i64 = number.base10_parse().ok()?;
    i32::try_from(if negative { -value } else { value }).ok()
}

fn not_an_integer(expr: &Expr, errors: &mut Errors) -> Option<i32> {
    errors.push_over(
        expr,
        "`priority` must be an integer literal: the compiler checks the order",
        "write `priority = 10`; lower numbers run first",
    );
    None
}

pub(super) fn call(key: &Ident, value: RawValue, errors: &mut Errors) -> Option<Call> {
    let other = match expr(key, value, errors)? {
        Expr::Path(path) => return Some(Call::Path(path)),
        Expr::Closure(closure) => return Some(Call::Closure(Closure(closure))),
        Expr::Lit(ExprLit {
            lit: Lit::Str(text),
            ..
        }) => {
            let bare = text.value();
            let help = format!("write `{key} = {bare}`");
            errors.push(
                text.span(),
                format!("`{key}` is a path or a closure, not a string"),
                help,
            );
            return None;
        }
        Expr::Call(call) => {
            let function = join_tokens(&call.func.to_token_stream().to_string());
            errors.push_over(
                &call,
                format!(
                    "`{key}` takes the function, not its result: the step calls it when it runs"
                ),
                format!("write `{key} = {function}`, or `{key} = |value| …`"),
            );
            return None;
        }
        Expr::MethodCall(call) => {
            let method = &call.method;
            let help = format!("write `{key} = |value| value.{method}(…)`");
            errors.push_over(
                &call,
                format!("`{key}` takes a function or a closure, not a call"),
                help,
            );
            return None;
        }
        other => other,
    };
    let example = keys::example(&key.to_string());
    errors.push_over(
        other,
        format!("`{key}` must be a path or a closure"),
        format!("write `{example}`, or the path of a function that takes the field"),
    );
    None
}

pub(super) fn dependencies(
    key: &Ident,
    value: RawValue,
    errors: &mut Errors,
) -> Option<Vec<Dependency>> {
    match value {
        RawValue::Dependencies(dependencies) => Some(dependencies),
        RawValue::None => {
            errors.push(
                key.span(),
                "`after` names no field",
                "write `after = field` or `after(a, b)`",
            );
            None
        }
        RawValue::Expr(_) | RawValue::List(_) | RawValue::Invalid => None,
    }
}

/// Parses the name or index of a field.
pub(super) fn field(input: ParseStream<'_>) -> Option<Dependency> {
    if let Ok(name) = input.call(Ident::parse_any) {
        return Some(Dependency {
            span: name.span(),
            name: name.unraw().to_string(),
        });
    }
    let index = input
        .peek(LitInt)
        .then(|| input.parse::<LitInt>().ok())
        .flatten()?;
    index.suffix().is_empty().then(|| Dependency {
        span: index.span(),
        name: index.base10_digits().to_owned(),
    })
}

/// Removes the spaces that tokens get when they are printed: `Tape :: flush` becomes `Tape::flush`.
pub(crate) fn join_tokens(tokens: &str) -> String {
    let mut text = tokens.to_owned();
    for (spaced, close) in [
        (" :: ", "::"),
        (":: ", "::"),
        (" ::", "::"),
        (" < ", "<"),
        ("< ", "<"),
        (" <", "<"),
        (" >", ">"),
        (" ,", ","),
        ("& ", "&"),
    ] {
        text = text.replace(spaced, close);
    }
    text
}

//! The value of a key, by kind.

use std::time::Duration;

use proc_macro2::{Ident, Span};
use quote::ToTokens;
use syn::ext::IdentExt as _;
use syn::parse::ParseStream;
use syn::spanned::Spanned;
use syn::{Expr, ExprClosure, ExprLit, ExprPath, ExprUnary, Lit, LitInt, LitStr, Path, UnOp};

use super::constant::is_constant;
use super::entry::Given;
use crate::duration;
use crate::errors::Errors;
use crate::keys;

/// A timeout.
pub(crate) enum Time {
    /// `"5s"`.
    Literal { time: Duration, text: LitStr },
    /// A constant, such as `const { … }` or `Duration::from_secs(5)`: computed while compiling, and proved like a literal.
    Const(Expr),
    /// Any other expression: known at run time.
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

/// What `with` and `abort` call.
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

/// A field named by `after`.
pub(crate) struct Target {
    /// The field's name without `r#`, or its index.
    pub(crate) name: String,
    pub(crate) span: Span,
}

/// A key that takes no value.
pub(super) fn flag(key: &Ident, given: Given, errors: &mut Errors) -> Option<()> {
    let value = match given {
        Given::Nothing => return Some(()),
        Given::Value(expr) => expr.to_token_stream(),
        Given::List(list) => list,
        Given::Targets(_) | Given::Broken => return None,
    };
    errors.push_over(
        value,
        format!("`{key}` takes no value"),
        format!("write `{key}` alone, or leave it away"),
    );
    None
}

/// The expression given for a key that needs one.
fn expr(key: &Ident, given: Given, errors: &mut Errors) -> Option<Expr> {
    let name = key.unraw().to_string();
    let form = keys::form(&name);
    match given {
        Given::Value(expr) => Some(plain(expr)),
        Given::Nothing => {
            errors.push(
                key.span(),
                format!("`{name}` needs a value"),
                format!("write `{form}`"),
            );
            None
        }
        Given::List(list) => {
            errors.push_over(
                list,
                format!("`{name}` takes its value behind `=`"),
                format!("write `{form}`"),
            );
            None
        }
        Given::Targets(_) | Given::Broken => None,
    }
}

/// The expression without the brackets that nobody wrote: a macro's `$value:expr` comes in one.
fn plain(mut expr: Expr) -> Expr {
    loop {
        expr = match expr {
            Expr::Group(group) => *group.expr,
            Expr::Paren(paren) if paren.attrs.is_empty() => *paren.expr,
            other => return other,
        };
    }
}

pub(super) fn time(key: &Ident, given: Given, errors: &mut Errors) -> Option<Time> {
    match expr(key, given, errors)? {
        Expr::Lit(ExprLit { lit, .. }) => literal_time(key, lit, errors),
        Expr::Unary(negative) if is_negative_literal(&negative) => {
            let example = keys::form(&key.to_string());
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

/// A time that must be known while compiling.
pub(super) fn known_time(key: &Ident, given: Given, errors: &mut Errors) -> Option<Time> {
    match time(key, given, errors)? {
        Time::Computed(expr) => {
            errors.push_over(
                expr,
                format!("`{key}` is known only at run time, so it proves nothing"),
                format!("write a text, `{key} = \"60s\"`, or a constant, `{key} = LIMIT`"),
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
            let example = keys::form(&key.to_string());
            errors.push_over(
                other,
                format!("`{key}` is a duration"),
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

pub(super) fn string(key: &Ident, given: Given, errors: &mut Errors) -> Option<LitStr> {
    match expr(key, given, errors)? {
        Expr::Lit(ExprLit {
            lit: Lit::Str(text),
            ..
        }) if !text.value().trim().is_empty() => Some(text),
        other => {
            let example = keys::form(&key.to_string());
            errors.push_over(
                other,
                format!("`{key}` is a text: what reports and logs call the type"),
                format!("write `{example}`"),
            );
            None
        }
    }
}

pub(super) fn path(key: &Ident, given: Given, errors: &mut Errors) -> Option<Path> {
    match expr(key, given, errors)? {
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
                format!("`{key}` is a path, not a text"),
                format!("write `{key} = {bare}`"),
            );
            None
        }
        other => {
            let example = keys::form(&key.unraw().to_string());
            errors.push_over(
                other,
                format!("`{key}` is the path under which this crate knows `lifecycle_runtime`"),
                format!("write `{example}`"),
            );
            None
        }
    }
}

pub(super) fn integer(key: &Ident, given: Given, errors: &mut Errors) -> Option<i32> {
    let expr = expr(key, given, errors)?;
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
            format!("this is no number that `{key}` can have"),
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
        "`priority` is a whole number that is written out: the order is checked while compiling",
        "write `priority = 10`; lower numbers run first",
    );
    None
}

pub(super) fn call(key: &Ident, given: Given, errors: &mut Errors) -> Option<Call> {
    let other = match expr(key, given, errors)? {
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
                format!("`{key}` is a path or a closure, not a text"),
                help,
            );
            return None;
        }
        Expr::Call(call) => {
            let function = tidy(&call.func.to_token_stream().to_string());
            errors.push_over(
                &call,
                format!(
                    "`{key}` takes the function, not its result: it is called when the step runs"
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
    let example = keys::form(&key.to_string());
    errors.push_over(
        other,
        format!("`{key}` is a path or a closure"),
        format!("write `{example}`, or the path of a function that takes the field"),
    );
    None
}

pub(super) fn targets(key: &Ident, given: Given, errors: &mut Errors) -> Option<Vec<Target>> {
    match given {
        Given::Targets(targets) => Some(targets),
        Given::Nothing => {
            errors.push(
                key.span(),
                "`after` names no field",
                "write `after = field` or `after(a, b)`",
            );
            None
        }
        Given::Value(_) | Given::List(_) | Given::Broken => None,
    }
}

/// The name or index of a field.
pub(super) fn field(input: ParseStream<'_>) -> Option<Target> {
    if let Ok(name) = input.call(Ident::parse_any) {
        return Some(Target {
            span: name.span(),
            name: name.unraw().to_string(),
        });
    }
    let index = input
        .peek(LitInt)
        .then(|| input.parse::<LitInt>().ok())
        .flatten()?;
    index.suffix().is_empty().then(|| Target {
        span: index.span(),
        name: index.base10_digits().to_owned(),
    })
}

/// Tokens as a person writes them: `Tape :: flush` to `Tape::flush`.
pub(crate) fn tidy(tokens: &str) -> String {
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

//! The reader of the list inside `#[shutdown(…)]`. It reads key by key, and continues after each mistake.

use proc_macro2::{Group, Ident, TokenStream, TokenTree};
use syn::ext::IdentExt as _;
use syn::parse::{ParseStream, Parser as _};
use syn::spanned::Spanned as _;
use syn::{Attribute, Expr, Lit, MacroDelimiter, Meta, Token};

use super::value::{self, Dependency};
use crate::errors::Errors;
use crate::keys::{self, Target};

/// A key with its value, which is not checked yet.
pub(super) struct Entry {
    pub(super) key: Ident,
    /// The key's text, without `r#`.
    pub(super) name: String,
    pub(super) value: RawValue,
}

/// The value of a key before its reader has checked it.
pub(super) enum RawValue {
    /// The key has no value, such as `skip`.
    None,
    /// The key is written as `key = value`.
    Expr(Expr),
    /// The key is `after`, with the fields that it names.
    Dependencies(Vec<Dependency>),
    /// The key is written as `key(…)`, and is not `after`.
    List(TokenStream),
    /// The value has a mistake, which is already in `errors`.
    Invalid,
}

/// Reads the entries of one attribute. A mistake in one entry does not hide mistakes in other entries.
pub(super) fn read(attr: &Attribute, target: Target, errors: &mut Errors) -> Vec<Entry> {
    match &attr.meta {
        Meta::Path(path) => {
            if target == Target::Type {
                errors.push(
                    path.span(),
                    "`#[shutdown]` without a key has no effect on a type",
                    "remove it, or give it a key such as `#[shutdown(timeout = \"25s\")]`",
                );
            }
            Vec::new()
        }
        Meta::NameValue(pair) => {
            errors.push_over(
                pair,
                "`#[shutdown]` takes keys in parentheses, not a value",
                format!("write `#[shutdown({})]`", example(target)),
            );
            Vec::new()
        }
        Meta::List(list) => {
            if !matches!(list.delimiter, MacroDelimiter::Paren(_)) {
                errors.push_over(
                    list,
                    "`#[shutdown]` takes its keys in parentheses",
                    format!("write `#[shutdown({})]`", example(target)),
                );
                return Vec::new();
            }
            entries(list.tokens.clone(), target, errors)
        }
    }
}

fn example(target: Target) -> &'static str {
    match target {
        Target::Type => "timeout = \"25s\"",
        Target::Field => "timeout = \"5s\"",
    }
}

fn entries(tokens: TokenStream, target: Target, errors: &mut Errors) -> Vec<Entry> {
    let mut read = Vec::new();
    let parsed = (|input: ParseStream<'_>| {
        while !input.is_empty() {
            read.extend(entry(input, target, errors));
            after_entry(input, errors)?;
        }
        Ok(())
    })
    .parse2(tokens);
    if let Err(error) = parsed {
        errors.push_syntax(error);
    }
    read
}

/// Reads one entry. If the entry has no key, reports that and returns `None`.
fn entry(input: ParseStream<'_>, target: Target, errors: &mut Errors) -> Option<Entry> {
    let Ok(key) = input.call(Ident::parse_any) else {
        report_no_key(input, target, errors);
        skip_entry(input);
        return None;
    };
    let name = key.unraw().to_string();
    let value = if name == "after" {
        dependencies(&key, input, errors)
    } else {
        raw_value(&key, input, errors)
    };
    Some(Entry { key, name, value })
}

/// Reports that an entry has no key, and guesses the key from the value.
fn report_no_key(input: ParseStream<'_>, target: Target, errors: &mut Errors) {
    let span = input.span();
    let help = match input.fork().parse::<Lit>() {
        Ok(Lit::Str(text)) if target == Target::Type || text.value().ends_with('s') => {
            format!("write `timeout = \"{}\"`", text.value())
        }
        Ok(Lit::Int(number)) if target == Target::Field => format!("write `priority = {number}`"),
        _ => format!("write `{}`", example(target)),
    };
    errors.push(span, "expected a key of `#[shutdown(…)]`", help);
}

fn raw_value(key: &Ident, input: ParseStream<'_>, errors: &mut Errors) -> RawValue {
    if input.peek(Token![=]) {
        // This cannot fail, since the token was just peeked.
        let _ = input.parse::<Token![=]>();
        return match try_parse::<Expr>(input) {
            Some(expr) => RawValue::Expr(expr),
            None => {
                broken_value(key, input, errors);
                RawValue::Invalid
            }
        };
    }
    if input.peek(syn::token::Paren) {
        return RawValue::List(skip_entry(input));
    }
    RawValue::None
}

fn broken_value(key: &Ident, input: ParseStream<'_>, errors: &mut Errors) {
    let name = key.unraw().to_string();
    let help = match keys::example(&name) {
        "" => "write `key = value`".to_owned(),
        form => format!("write `{form}`"),
    };
    let value = skip_entry(input);
    if value.is_empty() {
        errors.push(key.span(), format!("`{name}` needs a value"), help);
    } else {
        errors.push_over(
            value,
            format!("the value of `{name}` is not an expression"),
            help,
        );
    }
}

/// Reads the value of `after`: `after = field` or `after(a, b)`.
fn dependencies(key: &Ident, input: ParseStream<'_>, errors: &mut Errors) -> RawValue {
    if input.peek(Token![=]) {
        // This cannot fail, since the token was just peeked.
        let _ = input.parse::<Token![=]>();
        if input.is_empty() || input.peek(Token![,]) {
            broken_value(key, input, errors);
            return RawValue::Invalid;
        }
        return match dependency(input, errors) {
            Some(dependency) => RawValue::Dependencies(vec![dependency]),
            None => RawValue::Invalid,
        };
    }
    if !input.peek(syn::token::Paren) {
        return RawValue::None;
    }
    let Ok(list) = input.parse::<Group>() else {
        return RawValue::Invalid;
    };
    let mut found = Vec::new();
    let before = errors.len();
    let parsed = (|input: ParseStream<'_>| {
        while !input.is_empty() {
            found.extend(dependency(input, errors));
            after_entry(input, errors)?;
        }
        Ok(())
    })
    .parse2(list.stream());
    if let Err(error) = parsed {
        errors.push_syntax(error);
    }
    if found.is_empty() {
        if errors.len() == before {
            errors.push_over(
                list,
                "`after()` names no field",
                "name the fields to wait for, `after(a, b)`, or remove `after`",
            );
        }
        return RawValue::Invalid;
    }
    RawValue::Dependencies(found)
}

/// Consumes the comma after an entry, or reports that it is missing.
fn after_entry(input: ParseStream<'_>, errors: &mut Errors) -> syn::Result<()> {
    if input.is_empty() {
        return Ok(());
    }
    if !input.peek(Token![,]) {
        errors.push(
            input.span(),
            "expected a comma",
            "separate keys with commas: `priority = 10, timeout = \"5s\"`",
        );
        skip_entry(input);
        if input.is_empty() {
            return Ok(());
        }
    }
    input.parse::<Token![,]>().map(drop)
}

/// Parses a `T`. If that fails, consumes no token and returns `None`.
fn try_parse<T: syn::parse::Parse>(input: ParseStream<'_>) -> Option<T> {
    use syn::parse::discouraged::Speculative as _;

    let fork = input.fork();
    let parsed = fork.parse::<T>().ok()?;
    input.advance_to(&fork);
    Some(parsed)
}

/// Reads one field name of `after`. If there is something else, reports it, skips it and returns `None`.
fn dependency(input: ParseStream<'_>, errors: &mut Errors) -> Option<Dependency> {
    let written = input.fork();
    let found = value::field(input);
    if found.is_some() && (input.is_empty() || input.peek(Token![,])) {
        return found;
    }
    skip_entry(input);
    let help = match written.fork().parse::<Lit>() {
        Ok(Lit::Str(text)) => format!("write the name without quotes: `{}`", text.value()),
        _ if written.peek(Token![self]) => "write the name alone, without `self.`".to_owned(),
        _ => "write `after = field`, or `after(a, b)` for several".to_owned(),
    };
    errors.push_over(
        skip_entry(&written),
        "`after` takes the names of fields",
        help,
    );
    None
}

/// Skips the tokens up to the next comma, and returns them.
fn skip_entry(input: ParseStream<'_>) -> TokenStream {
    let mut passed = TokenStream::new();
    while !input.is_empty() && !input.peek(Token![,]) {
        match input.parse::<TokenTree>() {
            Ok(token) => passed.extend([token]),
            Err(_) => break,
        }
    }
    passed
}

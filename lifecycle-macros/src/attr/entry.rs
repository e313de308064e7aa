//! The list inside `#[shutdown(…)]`, key by key, going on after each mistake.

use proc_macro2::{Group, Ident, TokenStream, TokenTree};
use syn::ext::IdentExt as _;
use syn::parse::{ParseStream, Parser as _};
use syn::spanned::Spanned as _;
use syn::{Attribute, Expr, Lit, MacroDelimiter, Meta, Token};

use super::value::{self, Target};
use crate::errors::Errors;
use crate::keys::{self, Place};

/// One key, with what was given for it.
pub(super) struct Entry {
    pub(super) key: Ident,
    /// The key's text, without `r#`.
    pub(super) name: String,
    pub(super) given: Given,
}

/// What stands behind a key.
pub(super) enum Given {
    /// Nothing: `skip`.
    Nothing,
    /// `key = value`.
    Value(Expr),
    /// The fields of `after`.
    Targets(Vec<Target>),
    /// `key(…)`, of a key that takes no list.
    List(TokenStream),
    /// Something that was reported already.
    Broken,
}

/// Reads one attribute. Everything in it is looked at, whatever is wrong with some of it.
pub(super) fn read(attr: &Attribute, place: Place, errors: &mut Errors) -> Vec<Entry> {
    match &attr.meta {
        Meta::Path(path) => {
            if place == Place::Type {
                errors.push(
                    path.span(),
                    "`#[shutdown]` says nothing here: the derive is there already",
                    "remove it, or give it a key such as `#[shutdown(timeout = \"25s\")]`",
                );
            }
            Vec::new()
        }
        Meta::NameValue(pair) => {
            errors.push_over(
                pair,
                "`#[shutdown = …]` has no meaning",
                format!("name the key: `#[shutdown({})]`", example(place)),
            );
            Vec::new()
        }
        Meta::List(list) => {
            if !matches!(list.delimiter, MacroDelimiter::Paren(_)) {
                errors.push_over(
                    list,
                    "the keys of `#[shutdown]` stand in round brackets",
                    format!("write `#[shutdown({})]`", example(place)),
                );
                return Vec::new();
            }
            entries(list.tokens.clone(), place, errors)
        }
    }
}

fn example(place: Place) -> &'static str {
    match place {
        Place::Type => "timeout = \"25s\"",
        Place::Field => "timeout = \"5s\"",
    }
}

fn entries(tokens: TokenStream, place: Place, errors: &mut Errors) -> Vec<Entry> {
    let mut read = Vec::new();
    let parsed = (|input: ParseStream<'_>| {
        while !input.is_empty() {
            read.extend(entry(input, place, errors));
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

/// Reads one entry; `None` if it had no key.
fn entry(input: ParseStream<'_>, place: Place, errors: &mut Errors) -> Option<Entry> {
    let Ok(key) = input.call(Ident::parse_any) else {
        no_key(input, place, errors);
        skip_entry(input);
        return None;
    };
    let name = key.unraw().to_string();
    let given = if name == "after" {
        targets(&key, input, errors)
    } else {
        given(&key, input, errors)
    };
    Some(Entry { key, name, given })
}

fn no_key(input: ParseStream<'_>, place: Place, errors: &mut Errors) {
    let span = input.span();
    let help = match input.fork().parse::<Lit>() {
        Ok(Lit::Str(text)) if place == Place::Type || text.value().ends_with('s') => {
            format!("write `timeout = \"{}\"`", text.value())
        }
        Ok(Lit::Int(number)) if place == Place::Field => format!("write `priority = {number}`"),
        _ => format!("write `{}`", example(place)),
    };
    errors.push(span, "a key of `#[shutdown(…)]` is missing here", help);
}

fn given(key: &Ident, input: ParseStream<'_>, errors: &mut Errors) -> Given {
    if input.peek(Token![=]) {
        // Consumed as it was peeked.
        let _ = input.parse::<Token![=]>();
        return match whole::<Expr>(input) {
            Some(expr) => Given::Value(expr),
            None => {
                broken_value(key, input, errors);
                Given::Broken
            }
        };
    }
    if input.peek(syn::token::Paren) {
        return Given::List(skip_entry(input));
    }
    Given::Nothing
}

fn broken_value(key: &Ident, input: ParseStream<'_>, errors: &mut Errors) {
    let name = key.unraw().to_string();
    let help = match keys::form(&name) {
        "" => "write `key = value`".to_owned(),
        form => format!("write `{form}`"),
    };
    let value = skip_entry(input);
    if value.is_empty() {
        errors.push(key.span(), format!("`{name}` needs a value"), help);
    } else {
        errors.push_over(
            value,
            format!("the value of `{name}` is no expression"),
            help,
        );
    }
}

/// `after = field` or `after(a, b)`.
fn targets(key: &Ident, input: ParseStream<'_>, errors: &mut Errors) -> Given {
    if input.peek(Token![=]) {
        // Consumed as it was peeked.
        let _ = input.parse::<Token![=]>();
        if input.is_empty() || input.peek(Token![,]) {
            broken_value(key, input, errors);
            return Given::Broken;
        }
        return match target(input, errors) {
            Some(target) => Given::Targets(vec![target]),
            None => Given::Broken,
        };
    }
    if !input.peek(syn::token::Paren) {
        return Given::Nothing;
    }
    let Ok(list) = input.parse::<Group>() else {
        return Given::Broken;
    };
    let mut found = Vec::new();
    let before = errors.len();
    let parsed = (|input: ParseStream<'_>| {
        while !input.is_empty() {
            found.extend(target(input, errors));
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
                "name the fields it waits for, `after(a, b)`, or remove it",
            );
        }
        return Given::Broken;
    }
    Given::Targets(found)
}

/// Consumes the comma behind an entry, or reports what stands there instead.
fn after_entry(input: ParseStream<'_>, errors: &mut Errors) -> syn::Result<()> {
    if input.is_empty() {
        return Ok(());
    }
    if !input.peek(Token![,]) {
        errors.push(
            input.span(),
            "a comma is missing here",
            "separate the keys by commas: `priority = 10, timeout = \"5s\"`",
        );
        skip_entry(input);
        if input.is_empty() {
            return Ok(());
        }
    }
    input.parse::<Token![,]>().map(drop)
}

/// Parses a `T` that is followed by a comma or the end; consumes nothing otherwise.
fn whole<T: syn::parse::Parse>(input: ParseStream<'_>) -> Option<T> {
    use syn::parse::discouraged::Speculative as _;

    let fork = input.fork();
    let parsed = fork.parse::<T>().ok()?;
    input.advance_to(&fork);
    Some(parsed)
}

/// Reads one field of `after`; reports what is none, and goes on behind it.
fn target(input: ParseStream<'_>, errors: &mut Errors) -> Option<Target> {
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

/// Goes on to the next comma; what was passed over.
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

//! The functions that find `self` in the user's expressions, and replace it by its meaning in generated code.
//!
//! The functions work on tokens. So they reach into macro calls, and need no special case for a struct that a macro
//! wrote. The `self` of such a struct differs in hygiene from the `self` of the generated methods.

use proc_macro2::{Delimiter, Group, Ident, Literal, Punct, Spacing, Span, TokenStream, TokenTree};

/// A use of `self` in an expression.
pub(crate) enum SelfUse {
    /// The expression contains `self.field`.
    Field { name: String, span: Span },
    /// The expression contains `self.method(…)`.
    Method { name: String, span: Span },
    /// The expression contains `self` without a field or method.
    Bare { span: Span },
}

impl SelfUse {
    pub(crate) fn span(&self) -> Span {
        match self {
            Self::Field { span, .. } | Self::Method { span, .. } | Self::Bare { span } => *span,
        }
    }
}

/// Finds every use of `self`, in order.
pub(crate) fn find(tokens: TokenStream) -> Vec<SelfUse> {
    let mut found = Vec::new();
    rewrite(tokens, &mut |self_use| {
        found.push(self_use);
        TokenStream::new()
    });
    found
}

/// Replaces every use of `self` by the tokens that `replace` returns for it.
pub(crate) fn rewrite(
    tokens: TokenStream,
    replace: &mut dyn FnMut(SelfUse) -> TokenStream,
) -> TokenStream {
    let mut input = tokens.into_iter().peekable();
    let mut output = TokenStream::new();
    while let Some(token) = input.next() {
        match token {
            TokenTree::Group(group) => {
                let mut inner = Group::new(group.delimiter(), rewrite(group.stream(), replace));
                inner.set_span(group.span());
                output.extend([TokenTree::Group(inner)]);
            }
            TokenTree::Ident(ident) if ident == "self" => {
                let rest: TokenStream = input.collect();
                let (self_use, rest) = classify(ident, rest);
                match self_use {
                    Ok(self_use) => output.extend(replace(self_use)),
                    Err(path) => output.extend([TokenTree::Ident(path)]),
                }
                output.extend(rewrite(rest, replace));
                return output;
            }
            other => output.extend([other]),
        }
    }
    output
}

/// Classifies a use of `self` by the tokens after it, and returns the remaining tokens. The result is `Err` for the
/// path `self::…`.
fn classify(this: Ident, rest: TokenStream) -> (Result<SelfUse, Ident>, TokenStream) {
    let tokens: Vec<TokenTree> = rest.into_iter().collect();
    let from = |skip: usize| tokens.iter().skip(skip).cloned().collect::<TokenStream>();
    match tokens.as_slice() {
        [TokenTree::Punct(first), TokenTree::Punct(second), ..]
            if first.as_char() == ':'
                && first.spacing() == Spacing::Joint
                && second.as_char() == ':' =>
        {
            (Err(this), from(0))
        }
        [TokenTree::Punct(dot), TokenTree::Ident(name), after @ ..]
            if is_dot(dot) && name != "await" =>
        {
            let (span, name) = (name.span(), syn::ext::IdentExt::unraw(name).to_string());
            let called = matches!(after.first(), Some(TokenTree::Group(args)) if args.delimiter() == Delimiter::Parenthesis);
            let self_use = if called {
                SelfUse::Method { name, span }
            } else {
                SelfUse::Field { name, span }
            };
            (Ok(self_use), from(2))
        }
        [TokenTree::Punct(dot), TokenTree::Literal(index), ..] if is_dot(dot) => {
            let (name, inner) = split_index(index);
            let mut rest = inner;
            rest.extend(from(2));
            (
                Ok(SelfUse::Field {
                    name,
                    span: index.span(),
                }),
                rest,
            )
        }
        _ => (Ok(SelfUse::Bare { span: this.span() }), from(0)),
    }
}

fn is_dot(punct: &Punct) -> bool {
    punct.as_char() == '.' && punct.spacing() == Spacing::Alone
}

/// Splits a float literal: the tokens of `self.0.1` contain `0.1` as one literal. Returns the first index, and the
/// tokens of the rest.
fn split_index(index: &Literal) -> (String, TokenStream) {
    let text = index.to_string();
    let mut parts = text.split('.');
    let name = parts.next().unwrap_or_default().to_owned();
    let mut rest = TokenStream::new();
    for part in parts.filter(|part| !part.is_empty()) {
        let Ok(number) = part.parse::<usize>() else {
            continue;
        };
        let mut number = Literal::usize_unsuffixed(number);
        number.set_span(index.span());
        rest.extend([
            TokenTree::Punct(Punct::new('.', Spacing::Alone)),
            TokenTree::Literal(number),
        ]);
    }
    (name, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(source: &str) -> String {
        let tokens = source.parse().expect("tokens");
        rewrite(tokens, &mut |self_use| {
            match self_use {
                SelfUse::Field { name, .. } => format!("FIELD_{name}"),
                SelfUse::Method { name, .. } => format!("METHOD_{name}"),
                SelfUse::Bare { .. } => "BARE".to_owned(),
            }
            .parse()
            .expect("an identifier")
        })
        .to_string()
    }

    #[test]
    fn fields_methods_and_self_alone_are_distinguished() {
        assert_eq!(rewritten("self.config.limit()"), "FIELD_config . limit ()");
        assert_eq!(rewritten("self.limit()"), "METHOD_limit ()");
        assert_eq!(rewritten("f(self)"), "f (BARE)");
        assert_eq!(rewritten("self.r#type"), "FIELD_type");
    }

    #[test]
    fn tuple_fields_are_found_in_a_float_literal() {
        assert_eq!(rewritten("self.0"), "FIELD_0");
        assert_eq!(rewritten("self.0.1"), "FIELD_0 . 1");
    }

    #[test]
    fn self_is_found_in_macro_calls_but_not_in_paths() {
        assert_eq!(
            rewritten("log!(\"{}\", self.name)"),
            "log ! (\"{}\" , FIELD_name)"
        );
        assert_eq!(rewritten("self::f()"), "self :: f ()");
        assert_eq!(rewritten("Self::f()"), "Self :: f ()");
    }
}

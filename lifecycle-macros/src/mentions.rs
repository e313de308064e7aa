//! `self` in the expressions of a user: found, and replaced by what it means in the generated code.
//!
//! It works on tokens, so that it reaches into macro calls, and so that a struct written by a macro, whose `self` has
//! another hygiene than that of the generated methods, is no special case.

use proc_macro2::{Delimiter, Group, Ident, Literal, Punct, Spacing, Span, TokenStream, TokenTree};

/// A use of `self`.
pub(crate) enum Mention {
    /// `self.field`
    Field { name: String, span: Span },
    /// `self.method(…)`
    Method { name: String, span: Span },
    /// `self` by itself
    Bare { span: Span },
}

impl Mention {
    pub(crate) fn span(&self) -> Span {
        match self {
            Self::Field { span, .. } | Self::Method { span, .. } | Self::Bare { span } => *span,
        }
    }
}

/// Finds every use of `self`, in order.
pub(crate) fn find(tokens: TokenStream) -> Vec<Mention> {
    let mut found = Vec::new();
    rewrite(tokens, &mut |mention| {
        found.push(mention);
        TokenStream::new()
    });
    found
}

/// Replaces every use of `self` by what `replace` makes of it.
pub(crate) fn rewrite(
    tokens: TokenStream,
    replace: &mut dyn FnMut(Mention) -> TokenStream,
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
                let (mention, rest) = mention(ident, rest);
                match mention {
                    Ok(mention) => output.extend(replace(mention)),
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

/// What follows `self` decides what it is; in `self::function` it is no value at all.
fn mention(this: Ident, rest: TokenStream) -> (Result<Mention, Ident>, TokenStream) {
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
            let mention = if called {
                Mention::Method { name, span }
            } else {
                Mention::Field { name, span }
            };
            (Ok(mention), from(2))
        }
        [TokenTree::Punct(dot), TokenTree::Literal(index), ..] if is_dot(dot) => {
            let (name, inner) = split_index(index);
            let mut rest = inner;
            rest.extend(from(2));
            (
                Ok(Mention::Field {
                    name,
                    span: index.span(),
                }),
                rest,
            )
        }
        _ => (Ok(Mention::Bare { span: this.span() }), from(0)),
    }
}

fn is_dot(punct: &Punct) -> bool {
    punct.as_char() == '.' && punct.spacing() == Spacing::Alone
}

/// `self.0.1` arrives as `self` `.` `0.1`: the first number is the field, the rest goes on as it was meant.
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
        rewrite(tokens, &mut |mention| {
            match mention {
                Mention::Field { name, .. } => format!("FIELD_{name}"),
                Mention::Method { name, .. } => format!("METHOD_{name}"),
                Mention::Bare { .. } => "BARE".to_owned(),
            }
            .parse()
            .expect("an identifier")
        })
        .to_string()
    }

    #[test]
    fn fields_methods_and_self_itself_are_told_apart() {
        assert_eq!(rewritten("self.config.limit()"), "FIELD_config . limit ()");
        assert_eq!(rewritten("self.limit()"), "METHOD_limit ()");
        assert_eq!(rewritten("f(self)"), "f (BARE)");
        assert_eq!(rewritten("self.r#type"), "FIELD_type");
    }

    #[test]
    fn tuple_fields_are_found_inside_their_float() {
        assert_eq!(rewritten("self.0"), "FIELD_0");
        assert_eq!(rewritten("self.0.1"), "FIELD_0 . 1");
    }

    #[test]
    fn macro_calls_are_looked_into_and_paths_left_alone() {
        assert_eq!(
            rewritten("log!(\"{}\", self.name)"),
            "log ! (\"{}\" , FIELD_name)"
        );
        assert_eq!(rewritten("self::f()"), "self :: f ()");
        assert_eq!(rewritten("Self::f()"), "Self :: f ()");
    }
}

//! What a field's type says of the parameters of the type it stands in.

use proc_macro2::{Ident, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{DeriveInput, GenericParam, Generics, Type};

/// Which of the type's own names occur in a field's type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mentions {
    /// A lifetime, type or constant parameter, or `Self`: the type means something only inside an impl.
    pub(crate) any: bool,
    /// A type parameter, of which bounds can be asked.
    pub(crate) type_param: bool,
    /// The type itself: a bound on it would ask for what it is to prove.
    pub(crate) itself: bool,
}

/// Looks for the names of `source` in `ty`.
pub(crate) fn mentions(ty: &Type, source: &DeriveInput) -> Mentions {
    let mut found = Mentions::default();
    look(ty.to_token_stream(), source, &mut found);
    found
}

fn look(tokens: TokenStream, source: &DeriveInput, found: &mut Mentions) {
    let mut after_tick = false;
    for token in tokens {
        match &token {
            TokenTree::Group(group) => look(group.stream(), source, found),
            TokenTree::Ident(ident) => note(ident, after_tick, source, found),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
        after_tick = matches!(&token, TokenTree::Punct(punct) if punct.as_char() == '\'');
    }
}

fn note(ident: &Ident, is_lifetime: bool, source: &DeriveInput, found: &mut Mentions) {
    for param in &source.generics.params {
        match param {
            GenericParam::Lifetime(param) if is_lifetime => {
                found.any |= param.lifetime.ident == *ident
            }
            GenericParam::Type(param) if !is_lifetime && param.ident == *ident => {
                found.any = true;
                found.type_param = true;
            }
            GenericParam::Const(param) if !is_lifetime => found.any |= param.ident == *ident,
            _ => {}
        }
    }
    if !is_lifetime && ident == "Self" {
        found.any = true;
        found.itself = true;
    }
    found.itself |= !is_lifetime && source.ident == *ident;
}

/// The where-clause of an impl: that of the type, and more.
pub(crate) fn where_clause(generics: &Generics, more: &[TokenStream]) -> Option<TokenStream> {
    let own = generics
        .where_clause
        .iter()
        .flat_map(|clause| &clause.predicates);
    let mut all = own
        .map(ToTokens::to_token_stream)
        .chain(more.iter().cloned())
        .peekable();
    all.peek().is_some().then(|| here!(where #(#all),*))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ty: &str) -> Mentions {
        let source =
            syn::parse_str("struct Node<'a, T, const N: usize>(&'a [T; N]);").expect("a struct");
        mentions(&syn::parse_str(ty).expect("a type"), &source)
    }

    #[test]
    fn parameters_are_found_at_any_depth() {
        let none = Mentions::default();
        assert_eq!(of("Vec<u8>"), none);
        assert_eq!(of("&'static T2"), none);
        assert_eq!(of("&'a u8"), Mentions { any: true, ..none });
        assert_eq!(of("[u8; N]"), Mentions { any: true, ..none });
        assert_eq!(
            of("Option<Arc<(u8, T)>>"),
            Mentions {
                any: true,
                type_param: true,
                ..none
            }
        );
    }

    #[test]
    fn the_type_itself_is_found() {
        assert!(of("Option<Box<Node<'a, u8, 1>>>").itself);
        assert!(of("Option<Box<Self>>").itself);
    }
}

//! The search for the generic parameters that a field's type uses.

use proc_macro2::{Ident, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{DeriveInput, GenericParam, Generics, Type};

/// The names that a field's type uses: parameters of the type that has the derive, and that type itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ParamUses {
    /// Whether any parameter or `Self` occurs. The field's type can then be written only inside an impl.
    pub(crate) any: bool,
    /// Whether a type parameter occurs. The impls then need bounds on the field's type.
    pub(crate) type_param: bool,
    /// Whether the type that has the derive occurs itself. A bound on the field's type would then require itself.
    pub(crate) itself: bool,
}

/// Finds the parameters of `source`, and the name of `source` itself, that occur in `ty`.
pub(crate) fn param_uses(ty: &Type, source: &DeriveInput) -> ParamUses {
    let mut found = ParamUses::default();
    search(ty.to_token_stream(), source, &mut found);
    found
}

fn search(tokens: TokenStream, source: &DeriveInput, found: &mut ParamUses) {
    let mut after_tick = false;
    for token in tokens {
        match &token {
            TokenTree::Group(group) => search(group.stream(), source, found),
            TokenTree::Ident(ident) => record(ident, after_tick, source, found),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
        after_tick = matches!(&token, TokenTree::Punct(punct) if punct.as_char() == '\'');
    }
}

fn record(ident: &Ident, is_lifetime: bool, source: &DeriveInput, found: &mut ParamUses) {
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

/// Returns the where-clause of an impl: the type's own bounds, and the bounds in `more`.
pub(crate) fn where_clause(generics: &Generics, more: &[TokenStream]) -> Option<TokenStream> {
    let own = generics
        .where_clause
        .iter()
        .flat_map(|clause| &clause.predicates);
    let mut all = own
        .map(ToTokens::to_token_stream)
        .chain(more.iter().cloned())
        .peekable();
    all.peek().is_some().then(|| quote_mixed!(where #(#all),*))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ty: &str) -> ParamUses {
        let source =
            syn::parse_str("struct Node<'a, T, const N: usize>(&'a [T; N]);").expect("a struct");
        param_uses(&syn::parse_str(ty).expect("a type"), &source)
    }

    #[test]
    fn parameters_are_found_at_any_depth() {
        let none = ParamUses::default();
        assert_eq!(of("Vec<u8>"), none);
        assert_eq!(of("&'static T2"), none);
        assert_eq!(of("&'a u8"), ParamUses { any: true, ..none });
        assert_eq!(of("[u8; N]"), ParamUses { any: true, ..none });
        assert_eq!(
            of("Option<Arc<(u8, T)>>"),
            ParamUses {
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

//! The input of the derive: a type's fields with the parsed `#[shutdown(…)]` of each.

use proc_macro2::{Ident, Span};
use syn::ext::IdentExt as _;
use syn::spanned::Spanned as _;
use syn::{Data, DeriveInput, Fields, Index, Member, Type};

use crate::attr::{self, FieldAttrs, TypeAttrs};
use crate::errors::Errors;

/// The type that has the derive, with its attributes and fields.
pub(crate) struct Input<'a> {
    pub(crate) source: &'a DeriveInput,
    pub(crate) attrs: TypeAttrs,
    pub(crate) body: Body<'a>,
}

pub(crate) enum Body<'a> {
    Struct(Vec<Field<'a>>),
    Enum(Vec<Variant<'a>>),
    Union,
}

pub(crate) struct Variant<'a> {
    pub(crate) ident: &'a Ident,
    pub(crate) fields: Vec<Field<'a>>,
}

/// A field of a struct or variant.
pub(crate) struct Field<'a> {
    pub(crate) member: Member,
    /// The field's name without `r#`, or its index.
    pub(crate) name: String,
    pub(crate) ty: &'a Type,
    pub(crate) attrs: FieldAttrs,
}

impl Field<'_> {
    /// Returns the span for errors about the field: that of its name, or of its type if it has no name.
    pub(crate) fn span(&self) -> Span {
        match &self.member {
            Member::Named(ident) => ident.span(),
            Member::Unnamed(_) => self.ty.span(),
        }
    }
}

impl<'a> Input<'a> {
    pub(crate) fn read(source: &'a DeriveInput, errors: &mut Errors) -> Self {
        let attrs = attr::read_type(&source.attrs, errors);
        let body = match &source.data {
            Data::Struct(data) => Body::Struct(fields(&data.fields, errors)),
            Data::Enum(data) => Body::Enum(
                data.variants
                    .iter()
                    .map(|variant| read_variant(variant, errors))
                    .collect(),
            ),
            Data::Union(_) => Body::Union,
        };
        Self {
            source,
            attrs,
            body,
        }
    }
}

fn read_variant<'a>(variant: &'a syn::Variant, errors: &mut Errors) -> Variant<'a> {
    attr::refuse(
        &variant.attrs,
        "`#[shutdown]` does not apply to a variant: a shutdown cleans up the fields of the live variant",
        "move it to a field of the variant, or to the enum",
        errors,
    );
    Variant {
        ident: &variant.ident,
        fields: fields(&variant.fields, errors),
    }
}

fn fields<'a>(fields: &'a Fields, errors: &mut Errors) -> Vec<Field<'a>> {
    fields
        .iter()
        .enumerate()
        .map(|(index, field)| read_field(index, field, errors))
        .collect()
}

fn read_field<'a>(index: usize, field: &'a syn::Field, errors: &mut Errors) -> Field<'a> {
    let attrs = attr::read_field(&field.attrs, errors);
    let (member, name) = match &field.ident {
        Some(ident) => (Member::Named(ident.clone()), ident.unraw().to_string()),
        None => (Member::Unnamed(Index::from(index)), index.to_string()),
    };
    Field {
        member,
        name,
        ty: &field.ty,
        attrs,
    }
}

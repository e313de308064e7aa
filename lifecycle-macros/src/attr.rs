//! `#[shutdown(…)]` to values that keep the tokens they came from.

mod constant;
mod entry;
mod table;
mod value;

use proc_macro2::{Ident, Span};
use syn::Attribute;
use syn::spanned::Spanned;

use self::entry::{Entry, Given};
pub(crate) use self::table::{FIELD_KEYS, FieldAttrs, Key, TYPE_KEYS, TypeAttrs};
pub(crate) use self::value::{Call, Closure, Target, Time, tidy};
use crate::errors::Errors;
use crate::keys::{self, Place};

/// A key's value. The key stays known when its value was wrong, so that one mistake is not reported again as an
/// absence.
pub(crate) struct Slot<T> {
    key: Option<Ident>,
    value: Option<T>,
}

// By hand: the derived one would ask for `T: Default`.
impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self {
            key: None,
            value: None,
        }
    }
}

impl<T> Slot<T> {
    /// The key, if it was written, whatever its value.
    pub(crate) fn key(&self) -> Option<&Ident> {
        self.key.as_ref()
    }

    pub(crate) fn is_given(&self) -> bool {
        self.key.is_some()
    }

    /// The value, if it was written and is right.
    pub(crate) fn value(&self) -> Option<&T> {
        self.value.as_ref()
    }

    /// Where the key stands, for errors about it.
    pub(crate) fn span(&self) -> Span {
        self.key.as_ref().map_or_else(Span::call_site, Ident::span)
    }
}

/// A key without a value.
pub(crate) type Flag = Slot<()>;

impl FieldAttrs {
    /// Whether the field is a step of the plan.
    pub(crate) fn is_step(&self) -> bool {
        self.marked.is_some() && !self.skip.is_given() && !self.state.is_given()
    }

    /// Every key that was written, except `skip` and `state`.
    pub(crate) fn step_keys(&self) -> impl Iterator<Item = &Ident> {
        self.written()
            .filter(|key| *key != "skip" && *key != "state")
    }
}

pub(crate) fn read_type(attrs: &[Attribute], errors: &mut Errors) -> TypeAttrs {
    let before = errors.len();
    let mut read = TypeAttrs::default();
    for attr in shutdown(attrs) {
        for entry in entry::read(attr, Place::Type, errors) {
            read.set(entry, errors);
        }
    }
    read.flawed = errors.len() > before;
    read
}

pub(crate) fn read_field(attrs: &[Attribute], errors: &mut Errors) -> FieldAttrs {
    let before = errors.len();
    let mut read = FieldAttrs::default();
    for attr in shutdown(attrs) {
        read.marked.get_or_insert(attr.path().span());
        for entry in entry::read(attr, Place::Field, errors) {
            read.set(entry, errors);
        }
    }
    read.flawed = errors.len() > before;
    read
}

/// Reports `#[shutdown(…)]` where none has a meaning.
pub(crate) fn refuse(attrs: &[Attribute], what: &str, help: &str, errors: &mut Errors) {
    for attr in shutdown(attrs) {
        errors.push_over(attr, what, help);
    }
}

fn shutdown(attrs: &[Attribute]) -> impl Iterator<Item = &Attribute> {
    attrs.iter().filter(|attr| attr.path().is_ident("shutdown"))
}

/// Puts a value into its slot; of two, the second is the mistake.
fn set<T>(
    slot: &mut Slot<T>,
    entry: Entry,
    read: fn(&Ident, Given, &mut Errors) -> Option<T>,
    errors: &mut Errors,
) {
    if slot.is_given() {
        let name = &entry.name;
        errors.push(
            entry.key.span(),
            format!("`{name}` is given twice"),
            format!("keep one `{name}`, and remove this one"),
        );
        return;
    }
    slot.value = read(&entry.key, entry.given, errors);
    slot.key = Some(entry.key);
}

fn stray(entry: &Entry, place: Place, errors: &mut Errors) {
    let (what, help) = keys::stray(&entry.name, place);
    errors.push(entry.key.span(), what, help);
}

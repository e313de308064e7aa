//! The parser of `#[shutdown(…)]`. It returns values that remember where they were written.

mod constant;
mod entry;
mod table;
mod value;

use proc_macro2::{Ident, Span};
use syn::Attribute;
use syn::spanned::Spanned;

use self::entry::{Entry, RawValue};
pub(crate) use self::table::{FIELD_KEYS, FieldAttrs, Key, TYPE_KEYS, TypeAttrs};
pub(crate) use self::value::{Call, Closure, Dependency, Time, join_tokens};
use crate::errors::Errors;
use crate::keys::{self, Target};

/// The value of a key, and the key itself. A slot remembers the key even if its value is wrong, so that the key is not
/// also reported as missing.
pub(crate) struct Slot<T> {
    key: Option<Ident>,
    value: Option<T>,
}

// This is not derived, since the derived impl would require `T: Default`.
impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self {
            key: None,
            value: None,
        }
    }
}

impl<T> Slot<T> {
    /// Returns the key. `None` if the attribute does not contain it.
    pub(crate) fn key(&self) -> Option<&Ident> {
        self.key.as_ref()
    }

    /// Returns whether the key was written, even with a wrong value.
    pub(crate) fn is_given(&self) -> bool {
        self.key.is_some()
    }

    /// Returns the value. `None` if the key was not written or its value is wrong.
    pub(crate) fn value(&self) -> Option<&T> {
        self.value.as_ref()
    }

    /// Returns the span of the key, for errors about it.
    pub(crate) fn span(&self) -> Span {
        self.key.as_ref().map_or_else(Span::call_site, Ident::span)
    }
}

/// The slot of a key that takes no value.
pub(crate) type Flag = Slot<()>;

impl FieldAttrs {
    /// Returns whether the field is a step of the plan.
    pub(crate) fn is_step(&self) -> bool {
        self.attribute.is_some() && !self.skip.is_given() && !self.state.is_given()
    }

    /// Returns every key that was written, except `skip` and `state`.
    pub(crate) fn step_keys(&self) -> impl Iterator<Item = &Ident> {
        self.written()
            .filter(|key| *key != "skip" && *key != "state")
    }
}

pub(crate) fn read_type(attrs: &[Attribute], errors: &mut Errors) -> TypeAttrs {
    let before = errors.len();
    let mut read = TypeAttrs::default();
    for attr in shutdown_attrs(attrs) {
        for entry in entry::read(attr, Target::Type, errors) {
            read.set(entry, errors);
        }
    }
    read.has_errors = errors.len() > before;
    read
}

pub(crate) fn read_field(attrs: &[Attribute], errors: &mut Errors) -> FieldAttrs {
    let before = errors.len();
    let mut read = FieldAttrs::default();
    for attr in shutdown_attrs(attrs) {
        read.attribute.get_or_insert(attr.path().span());
        for entry in entry::read(attr, Target::Field, errors) {
            read.set(entry, errors);
        }
    }
    read.has_errors = errors.len() > before;
    read
}

/// Reports every `#[shutdown(…)]` in `attrs`, because the attribute does not apply at that place.
pub(crate) fn refuse(attrs: &[Attribute], what: &str, help: &str, errors: &mut Errors) {
    for attr in shutdown_attrs(attrs) {
        errors.push_over(attr, what, help);
    }
}

fn shutdown_attrs(attrs: &[Attribute]) -> impl Iterator<Item = &Attribute> {
    attrs.iter().filter(|attr| attr.path().is_ident("shutdown"))
}

/// Puts a value into its slot. If the slot has a value already, reports the second value.
fn set<T>(
    slot: &mut Slot<T>,
    entry: Entry,
    read: fn(&Ident, RawValue, &mut Errors) -> Option<T>,
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
    slot.value = read(&entry.key, entry.value, errors);
    slot.key = Some(entry.key);
}

fn report_unusable(entry: &Entry, target: Target, errors: &mut Errors) {
    let (what, help) = keys::explain(&entry.name, target);
    errors.push(entry.key.span(), what, help);
}

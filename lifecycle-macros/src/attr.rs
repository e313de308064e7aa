//! `#[shutdown(…)]` to values that keep the tokens they came from.

mod constant;
mod entry;
mod value;

use proc_macro2::{Ident, Span};
use syn::spanned::Spanned;
use syn::{Attribute, LitStr, Path};

use self::entry::{Entry, Given};
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

/// What stands on a struct or enum.
#[derive(Default)]
pub(crate) struct TypeAttrs {
    pub(crate) timeout: Slot<Time>,
    pub(crate) at_most: Slot<Time>,
    pub(crate) name: Slot<LitStr>,
    pub(crate) part: Flag,
    pub(crate) strict: Flag,
    pub(crate) no_drop: Flag,
    pub(crate) runtime: Slot<Path>,
    /// Something here was not understood, so that what is missing may be what was meant.
    pub(crate) flawed: bool,
}

/// What stands on a field.
#[derive(Default)]
pub(crate) struct FieldAttrs {
    /// Where the first `#[shutdown]` stands; without one the field says nothing.
    pub(crate) marked: Option<Span>,
    pub(crate) priority: Slot<i32>,
    pub(crate) after: Slot<Vec<Target>>,
    pub(crate) timeout: Slot<Time>,
    pub(crate) at_most: Slot<Time>,
    pub(crate) with: Slot<Call>,
    pub(crate) take: Flag,
    pub(crate) abort: Slot<Call>,
    pub(crate) blocking: Flag,
    pub(crate) leaf: Flag,
    pub(crate) required: Flag,
    pub(crate) best_effort: Flag,
    pub(crate) skip: Flag,
    pub(crate) state: Flag,
    /// Something here was not understood, so that what is missing may be what was meant.
    pub(crate) flawed: bool,
}

impl FieldAttrs {
    /// Whether the field is a step of the plan.
    pub(crate) fn is_step(&self) -> bool {
        self.marked.is_some() && !self.skip.is_given() && !self.state.is_given()
    }

    /// Every key that was written, except `skip` and `state`.
    pub(crate) fn step_keys(&self) -> impl Iterator<Item = &Ident> {
        [
            self.priority.key(),
            self.after.key(),
            self.timeout.key(),
            self.at_most.key(),
            self.with.key(),
            self.take.key(),
            self.abort.key(),
            self.blocking.key(),
            self.leaf.key(),
            self.required.key(),
            self.best_effort.key(),
        ]
        .into_iter()
        .flatten()
    }
}

pub(crate) fn read_type(attrs: &[Attribute], errors: &mut Errors) -> TypeAttrs {
    let before = errors.len();
    let mut read = TypeAttrs::default();
    for attr in shutdown(attrs) {
        for entry in entry::read(attr, Place::Type, errors) {
            type_entry(&mut read, entry, errors);
        }
    }
    read.flawed = errors.len() > before;
    read
}

fn type_entry(read: &mut TypeAttrs, entry: Entry, errors: &mut Errors) {
    match entry.name.as_str() {
        "timeout" => set(&mut read.timeout, entry, value::time, errors),
        "at_most" => set(&mut read.at_most, entry, value::known_time, errors),
        "name" => set(&mut read.name, entry, value::string, errors),
        "crate" => set(&mut read.runtime, entry, value::path, errors),
        "part" => set(&mut read.part, entry, value::flag, errors),
        "strict" => set(&mut read.strict, entry, value::flag, errors),
        "no_drop" => set(&mut read.no_drop, entry, value::flag, errors),
        _ => stray(&entry, Place::Type, errors),
    }
}

pub(crate) fn read_field(attrs: &[Attribute], errors: &mut Errors) -> FieldAttrs {
    let before = errors.len();
    let mut read = FieldAttrs::default();
    for attr in shutdown(attrs) {
        read.marked.get_or_insert(attr.path().span());
        for entry in entry::read(attr, Place::Field, errors) {
            field_entry(&mut read, entry, errors);
        }
    }
    read.flawed = errors.len() > before;
    read
}

fn field_entry(read: &mut FieldAttrs, entry: Entry, errors: &mut Errors) {
    match entry.name.as_str() {
        "priority" => set(&mut read.priority, entry, value::integer, errors),
        "after" => set(&mut read.after, entry, value::targets, errors),
        "timeout" => set(&mut read.timeout, entry, value::time, errors),
        "at_most" => set(&mut read.at_most, entry, value::known_time, errors),
        "with" => set(&mut read.with, entry, value::call, errors),
        "abort" => set(&mut read.abort, entry, value::call, errors),
        "take" => set(&mut read.take, entry, value::flag, errors),
        "blocking" => set(&mut read.blocking, entry, value::flag, errors),
        "leaf" => set(&mut read.leaf, entry, value::flag, errors),
        "required" => set(&mut read.required, entry, value::flag, errors),
        "best_effort" => set(&mut read.best_effort, entry, value::flag, errors),
        "skip" => set(&mut read.skip, entry, value::flag, errors),
        "state" => set(&mut read.state, entry, value::flag, errors),
        _ => stray(&entry, Place::Field, errors),
    }
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

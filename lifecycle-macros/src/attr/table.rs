//! The keys of `#[shutdown(…)]`: one row a key.
//!
//! What is parsed, what is said of a key in the wrong place, and the tables of the documentation (which a test compares)
//! follow from the rows.

use proc_macro2::{Ident, Span};
use syn::{LitStr, Path};

use super::entry::Entry;
use super::value::{self, Call, Target, Time};
use super::{Flag, Slot, set, stray};
use crate::errors::Errors;
use crate::keys::Place;

/// One key.
pub(crate) struct Key {
    pub(crate) name: &'static str,
    /// How it is written in full, for messages.
    pub(crate) form: &'static str,
    /// Every way to write it, for the documentation.
    #[cfg(test)]
    pub(crate) forms: &'static [&'static str],
    /// What it means, for the documentation.
    #[cfg(test)]
    pub(crate) meaning: &'static str,
}

/// Makes a struct with a slot for each key, what fills it, and the table of the keys.
macro_rules! keys {
    (
        $(#[$doc:meta])* $attrs:ident { $($(#[$own_doc:meta])* $own:ident: $own_type:ty,)* }
        $table:ident on $place:path {
            $($key:literal $slot:ident: $slot_type:ty = $read:path, $form:literal, [$($forms:literal),+], $meaning:literal;)+
        }
    ) => {
        $(#[$doc])*
        #[derive(Default)]
        pub(crate) struct $attrs {
            $($(#[$own_doc])* pub(crate) $own: $own_type,)*
            $(pub(crate) $slot: $slot_type,)+
            /// Something here was not understood, so that what is missing may be what was meant.
            pub(crate) flawed: bool,
        }

        impl $attrs {
            /// Puts the value of a key into its slot, or reports that the key has no meaning here.
            pub(super) fn set(&mut self, entry: Entry, errors: &mut Errors) {
                match entry.name.as_str() {
                    $($key => set(&mut self.$slot, entry, $read, errors),)+
                    _ => stray(&entry, $place, errors),
                }
            }

            /// Every key that was written.
            #[allow(dead_code)] // nobody asks for those of a type
            pub(super) fn written(&self) -> impl Iterator<Item = &Ident> {
                [$(self.$slot.key()),+].into_iter().flatten()
            }
        }

        pub(crate) const $table: &[Key] = &[$(Key {
            name: $key,
            form: $form,
            #[cfg(test)]
            forms: &[$($forms),+],
            #[cfg(test)]
            meaning: $meaning,
        }),+];
    };
}

keys! {
    /// What stands on a struct or enum.
    TypeAttrs {}
    TYPE_KEYS on Place::Type {
        "timeout" timeout: Slot<Time> = value::time, "timeout = \"5s\"", ["timeout = \"25s\""],
            "the total budget; 25 s for an owner that states none, as Kubernetes kills after 30 s";
        "at_most" at_most: Slot<Time> = value::known_time, "at_most = \"60s\"", ["at_most = \"60s\""],
            "beside a timeout computed at run time: what it is clipped to, and proved with";
        "name" name: Slot<LitStr> = value::string, "name = \"server\"", ["name = \"…\""],
            "the name in plans, reports and logs, instead of the type's";
        "part" part: Flag = value::flag, "part", ["part"],
            "it lives inside another: a component without state and `Drop`. Enums are always parts";
        "strict" strict: Flag = value::flag, "strict", ["strict"],
            "every field needs `#[shutdown(…)]`, even if only `skip`";
        "no_drop" no_drop: Flag = value::flag, "no_drop", ["no_drop"],
            "no `Drop` for the struct, so that its fields can be moved out; the state's own drop logs";
        "crate" runtime: Slot<Path> = value::path, "crate = path::to::lifecycle_runtime", ["crate = path"],
            "where this crate is found, if it is renamed or re-exported";
    }
}

keys! {
    /// What stands on a field.
    FieldAttrs {
        /// Where the first `#[shutdown]` stands; without one the field says nothing.
        marked: Option<Span>,
    }
    FIELD_KEYS on Place::Field {
        "priority" priority: Slot<i32> = value::integer, "priority = 10", ["priority = 10"],
            "lower numbers run first, equal ones together";
        "after" after: Slot<Vec<Target>> = value::targets, "after = field", ["after = field", "after(a, b)"],
            "waits for these fields, too; without a priority it takes the greatest among theirs";
        "timeout" timeout: Slot<Time> = value::time, "timeout = \"5s\"", ["timeout = \"5s\""],
            "the longest the step may take";
        "at_most" at_most: Slot<Time> = value::known_time, "at_most = \"60s\"", ["at_most = \"60s\""],
            "beside a timeout computed at run time: what it is clipped to, and proved with";
        "with" with: Slot<Call> = value::call, "with = |value| value.close()",
            ["with = path", "with = |field| …", "with = |field, cx| …"],
            "how it is cleaned, called with `&mut field`";
        "take" take: Flag = value::flag, "take", ["take"],
            "beside `with`, on an `Option<…>`: moves the value out, for a method that consumes it; `abort` consumes it too";
        "abort" abort: Slot<Call> = value::call, "abort = |value| value.kill()", ["abort = path", "abort = |field| …"],
            "beside `with`: forces the end, synchronously, when the step is not done, and in `Drop`";
        "blocking" blocking: Flag = value::flag, "blocking", ["blocking"],
            "beside `with`: runs it on the blocking pool; the field is an `Option<…>` or an `Arc<…>`. A call cannot be cut: \
             it is left behind at the deadline, and `abort` runs when it gives the value back";
        "leaf" leaf: Flag = value::flag, "leaf", ["leaf"],
            "leaves the nested plan out of this one, which a recursive type needs";
        "required" required: Flag = value::flag, "required", ["required"],
            "unless it is done, all steps after it are skipped and aborted";
        "best_effort" best_effort: Flag = value::flag, "best_effort", ["best_effort"],
            "its failure leaves the report clean";
        "skip" skip: Flag = value::flag, "skip", ["skip"],
            "another owner cleans it, or nobody needs to";
        "state" state: Flag = value::flag, "state", ["state"],
            "the [`ShutdownState`] of an owner";
    }
}

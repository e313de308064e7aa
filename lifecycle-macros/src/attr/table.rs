//! The table of the keys of `#[shutdown(…)]`, a row for each key.
//!
//! These rows define the parser, the messages about misplaced keys, and the tables in the documentation (a test
//! compares those tables with the rows).

use proc_macro2::{Ident, Span};
use syn::{LitStr, Path};

use super::entry::Entry;
use super::value::{self, Call, Dependency, Time};
use super::{Flag, Slot, report_unusable, set};
use crate::errors::Errors;
use crate::keys::Target;

/// A key of `#[shutdown(…)]`.
pub(crate) struct Key {
    pub(crate) name: &'static str,
    /// The key with an example value, as messages show it.
    pub(crate) example: &'static str,
    /// Every way to write the key, for the documentation.
    #[cfg(test)]
    pub(crate) spellings: &'static [&'static str],
    /// The meaning of the key, for the documentation.
    #[cfg(test)]
    pub(crate) meaning: &'static str,
}

/// Defines a struct with a slot for each key, the method that fills it, and the table of its keys.
macro_rules! keys {
    (
        $(#[$doc:meta])* $attrs:ident { $($(#[$own_doc:meta])* $own:ident: $own_type:ty,)* }
        $table:ident on $target:path {
            $($key:literal $slot:ident: $slot_type:ty = $read:path, $example:literal, [$($spelling:literal),+], $meaning:literal;)+
        }
    ) => {
        $(#[$doc])*
        #[derive(Default)]
        pub(crate) struct $attrs {
            $($(#[$own_doc])* pub(crate) $own: $own_type,)*
            $(pub(crate) $slot: $slot_type,)+
            /// Whether an attribute of the item had a mistake. A missing key may then be what the user meant there.
            pub(crate) has_errors: bool,
        }

        impl $attrs {
            /// Puts the value of a key into its slot, or reports that the key does not exist here.
            pub(super) fn set(&mut self, entry: Entry, errors: &mut Errors) {
                match entry.name.as_str() {
                    $($key => set(&mut self.$slot, entry, $read, errors),)+
                    _ => report_unusable(&entry, $target, errors),
                }
            }

            /// Returns every key that was written.
            #[allow(dead_code)] // unused for the keys of types
            pub(super) fn written(&self) -> impl Iterator<Item = &Ident> {
                [$(self.$slot.key()),+].into_iter().flatten()
            }
        }

        pub(crate) const $table: &[Key] = &[$(Key {
            name: $key,
            example: $example,
            #[cfg(test)]
            spellings: &[$($spelling),+],
            #[cfg(test)]
            meaning: $meaning,
        }),+];
    };
}

keys! {
    /// The keys that may be written on a struct or enum.
    TypeAttrs {}
    TYPE_KEYS on Target::Type {
        "timeout" timeout: Slot<Time> = value::time, "timeout = \"5s\"", ["timeout = \"25s\""],
            "the total budget; an owner that states none has 25 s, since Kubernetes kills after 30 s";
        "at_most" at_most: Slot<Time> = value::known_time, "at_most = \"60s\"", ["at_most = \"60s\""],
            "the limit of a timeout that is computed at run time; the compiler proves the budget with it";
        "name" name: Slot<LitStr> = value::string, "name = \"server\"", ["name = \"…\""],
            "the name in plans, reports and logs, instead of the type's";
        "part" part: Flag = value::flag, "part", ["part"],
            "makes the type a part, which lives inside another type: a component without state and `Drop`. Enums are always parts";
        "strict" strict: Flag = value::flag, "strict", ["strict"],
            "requires `#[shutdown(…)]` on every field, even if only `skip`";
        "no_drop" no_drop: Flag = value::flag, "no_drop", ["no_drop"],
            "writes no `Drop` for the struct, so that its fields can be moved out; the state's own drop logs";
        "crate" runtime: Slot<Path> = value::path, "crate = path::to::lifecycle_runtime", ["crate = path"],
            "the path of this crate, if it is renamed or re-exported";
    }
}

keys! {
    /// The keys that may be written on a field.
    FieldAttrs {
        /// The span of the field's first `#[shutdown]`, if it has one.
        attribute: Option<Span>,
    }
    FIELD_KEYS on Target::Field {
        "priority" priority: Slot<i32> = value::integer, "priority = 10", ["priority = 10"],
            "lower numbers run first, equal numbers at the same time";
        "after" after: Slot<Vec<Dependency>> = value::dependencies, "after = field", ["after = field", "after(a, b)"],
            "waits for these fields, too; a step without a priority takes the greatest among theirs";
        "timeout" timeout: Slot<Time> = value::time, "timeout = \"5s\"", ["timeout = \"5s\""],
            "the longest time that the step may take";
        "at_most" at_most: Slot<Time> = value::known_time, "at_most = \"60s\"", ["at_most = \"60s\""],
            "the limit of a timeout that is computed at run time; the compiler proves the budget with it";
        "with" with: Slot<Call> = value::call, "with = |value| value.close()",
            ["with = path", "with = |field| …", "with = |field, cx| …"],
            "the function or closure that cleans up the field, called with `&mut field`";
        "take" take: Flag = value::flag, "take", ["take"],
            "beside `with`, on an `Option<…>`: moves the value out, for a method that consumes it; `abort` consumes it too";
        "abort" abort: Slot<Call> = value::call, "abort = |value| value.kill()", ["abort = path", "abort = |field| …"],
            "beside `with`: forces the end synchronously if the step is not done, and in `Drop`";
        "blocking" blocking: Flag = value::flag, "blocking", ["blocking"],
            "beside `with`: runs it on the blocking pool; the field must be an `Option<…>` or an `Arc<…>`. A call cannot be cut: \
             it is left behind at the deadline, and `abort` runs when it gives the value back";
        "leaf" leaf: Flag = value::flag, "leaf", ["leaf"],
            "leaves the nested plan out of this one, which a recursive type needs";
        "required" required: Flag = value::flag, "required", ["required"],
            "if the step is not done, all steps after it are skipped and aborted";
        "best_effort" best_effort: Flag = value::flag, "best_effort", ["best_effort"],
            "a failure of the step leaves the report clean";
        "skip" skip: Flag = value::flag, "skip", ["skip"],
            "another owner cleans up the field, or there is nothing to clean up";
        "state" state: Flag = value::flag, "state", ["state"],
            "the [`ShutdownState`] of an owner";
    }
}

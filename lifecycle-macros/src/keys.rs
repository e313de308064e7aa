//! The messages about a key of `#[shutdown(…)]` that does not exist or is in the wrong place.

use crate::attr::{FIELD_KEYS, Key, TYPE_KEYS};
use crate::nearest::nearest;

/// The kind of item on which a `#[shutdown(…)]` is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Type,
    Field,
}

impl Target {
    /// Returns the target's name for messages, as in "`part` belongs on the type".
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Self::Type => "the type",
            Self::Field => "a field",
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Type => Self::Field,
            Self::Field => Self::Type,
        }
    }

    /// Returns the keys that may be written on this target.
    fn keys(self) -> &'static [Key] {
        match self {
            Self::Type => TYPE_KEYS,
            Self::Field => FIELD_KEYS,
        }
    }
}

/// Words that users may try as keys, each with the right key.
const SYNONYMS: [(&str, &str); 14] = [
    ("ignore", "skip"),
    ("none", "skip"),
    ("order", "priority"),
    ("prio", "priority"),
    ("deadline", "timeout"),
    ("budget", "timeout"),
    ("max", "at_most"),
    ("depends_on", "after"),
    ("needs", "after"),
    ("close", "with"),
    ("cleanup", "with"),
    ("func", "with"),
    ("optional", "best_effort"),
    ("manual_drop", "no_drop"),
];

/// Returns the key called `name`, if it may be written on the target.
fn find(name: &str, target: Target) -> Option<&'static Key> {
    target.keys().iter().find(|key| key.name == name)
}

/// Returns the key with an example value, for messages. Returns an empty string if there is no such key.
pub(crate) fn example(name: &str) -> &'static str {
    find(name, Target::Field)
        .or_else(|| find(name, Target::Type))
        .map_or("", |key| key.example)
}

/// Explains a key that may not be written on the target. Returns the mistake, and what to write instead.
pub(crate) fn explain(name: &str, target: Target) -> (String, String) {
    if let Some(key) = find(name, target.other()) {
        return explain_misplaced(key, target);
    }
    let what = format!("unknown key `{name}`");
    if name == "before" {
        return (
            what,
            "write `after = this_field` on the field that is cleaned up later".to_owned(),
        );
    }
    if let Some((_, meant)) = SYNONYMS.iter().find(|(other, _)| *other == name) {
        return (
            what,
            format!(
                "the key is called `{meant}`: {}",
                how_to_write(meant, target)
            ),
        );
    }
    let names = |target: Target| target.keys().iter().map(|key| key.name);
    match nearest(name, names(target)).or_else(|| nearest(name, names(target.other()))) {
        Some(meant) if find(meant, target).is_some() => (what, format!("did you mean `{meant}`?")),
        Some(meant) => (
            what,
            format!(
                "did you mean `{meant}`, which belongs on {}?",
                target.other().noun()
            ),
        ),
        None => (
            what,
            format!("the keys of {} are {}", target.noun(), list_names(target)),
        ),
    }
}

fn how_to_write(name: &str, target: Target) -> String {
    match find(name, target) {
        Some(key) => format!("write `{}`", key.example),
        None => format!("it belongs on {}", target.other().noun()),
    }
}

fn explain_misplaced(key: &Key, target: Target) -> (String, String) {
    let what = format!(
        "`{}` belongs on {}, not on {}",
        key.name,
        target.other().noun(),
        target.noun()
    );
    let help = match target {
        Target::Type => format!(
            "write `#[shutdown({})]` above the field that it is about",
            key.example
        ),
        Target::Field => format!(
            "write `#[shutdown({})]` above the `struct` or `enum`",
            key.example
        ),
    };
    (what, help)
}

fn list_names(target: Target) -> String {
    let names: Vec<_> = target
        .keys()
        .iter()
        .map(|key| format!("`{}`", key.name))
        .collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_key_gets_the_right_one() {
        let (what, help) = explain("prioirty", Target::Field);
        assert_eq!(what, "unknown key `prioirty`");
        assert_eq!(help, "did you mean `priority`?");
    }

    #[test]
    fn a_misplaced_key_says_where_it_belongs() {
        let (what, help) = explain("part", Target::Field);
        assert_eq!(what, "`part` belongs on the type, not on a field");
        assert_eq!(
            help,
            "write `#[shutdown(part)]` above the `struct` or `enum`"
        );
    }

    #[test]
    fn a_key_that_resembles_none_lists_all_keys() {
        let (_, help) = explain("colour", Target::Type);
        assert!(
            help.contains("`timeout`") && !help.contains("`priority`"),
            "{help}"
        );
    }

    #[test]
    fn every_synonym_names_a_key() {
        for (_, meant) in SYNONYMS {
            assert!(!example(meant).is_empty(), "{meant}");
        }
    }
}

//! What is said of a key of `#[shutdown(…)]` that has no meaning where it stands.

use crate::attr::{FIELD_KEYS, Key, TYPE_KEYS};
use crate::nearest::nearest;

/// What a `#[shutdown(…)]` stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Type,
    Field,
}

impl Place {
    /// As in "`part` belongs on the struct".
    pub(crate) fn text(self) -> &'static str {
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

    /// The keys that may stand here.
    fn keys(self) -> &'static [Key] {
        match self {
            Self::Type => TYPE_KEYS,
            Self::Field => FIELD_KEYS,
        }
    }
}

/// Words that other tools use for what has another name here.
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

/// The key of that name, if it may stand here.
fn find(name: &str, place: Place) -> Option<&'static Key> {
    place.keys().iter().find(|key| key.name == name)
}

/// How a key is written; for texts.
pub(crate) fn form(name: &str) -> &'static str {
    find(name, Place::Field)
        .or_else(|| find(name, Place::Type))
        .map_or("", |key| key.form)
}

/// What to say of a key that has no meaning here: what is wrong, and what to write instead.
pub(crate) fn stray(name: &str, place: Place) -> (String, String) {
    if let Some(key) = find(name, place.other()) {
        return misplaced(key, place);
    }
    let what = format!("there is no key `{name}`");
    if name == "before" {
        return (
            what,
            "say it on the field that waits: `after = this_field`".to_owned(),
        );
    }
    if let Some((_, meant)) = SYNONYMS.iter().find(|(other, _)| *other == name) {
        return (
            what,
            format!("here it is called `{meant}`: {}", instead(meant, place)),
        );
    }
    let names = |place: Place| place.keys().iter().map(|key| key.name);
    match nearest(name, names(place)).or_else(|| nearest(name, names(place.other()))) {
        Some(meant) if find(meant, place).is_some() => (what, format!("did you mean `{meant}`?")),
        Some(meant) => (
            what,
            format!(
                "did you mean `{meant}`, which belongs on {}?",
                place.other().text()
            ),
        ),
        None => (
            what,
            format!("the keys of {} are {}", place.text(), all(place)),
        ),
    }
}

fn instead(name: &str, place: Place) -> String {
    match find(name, place) {
        Some(key) => format!("write `{}`", key.form),
        None => format!("it belongs on {}", place.other().text()),
    }
}

fn misplaced(key: &Key, place: Place) -> (String, String) {
    let what = format!(
        "`{}` belongs on {}, not on {}",
        key.name,
        place.other().text(),
        place.text()
    );
    let help = match place {
        Place::Type => format!(
            "write `#[shutdown({})]` above the field it is about",
            key.form
        ),
        Place::Field => format!(
            "write `#[shutdown({})]` above the `struct` or `enum`",
            key.form
        ),
    };
    (what, help)
}

fn all(place: Place) -> String {
    let names: Vec<_> = place
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
    fn a_slip_is_answered_with_the_key() {
        let (what, help) = stray("prioirty", Place::Field);
        assert_eq!(what, "there is no key `prioirty`");
        assert_eq!(help, "did you mean `priority`?");
    }

    #[test]
    fn a_key_in_the_wrong_place_says_the_right_one() {
        let (what, help) = stray("part", Place::Field);
        assert_eq!(what, "`part` belongs on the type, not on a field");
        assert_eq!(
            help,
            "write `#[shutdown(part)]` above the `struct` or `enum`"
        );
    }

    #[test]
    fn a_strange_key_lists_all() {
        let (_, help) = stray("colour", Place::Type);
        assert!(
            help.contains("`timeout`") && !help.contains("`priority`"),
            "{help}"
        );
    }

    #[test]
    fn every_synonym_names_a_key() {
        for (_, meant) in SYNONYMS {
            assert!(!form(meant).is_empty(), "{meant}");
        }
    }
}

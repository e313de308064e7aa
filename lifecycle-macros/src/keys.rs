//! The keys of `#[shutdown(…)]`: where each belongs, and how each is written.

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
}

/// One key.
pub(crate) struct Key {
    pub(crate) name: &'static str,
    /// How it is written in full.
    pub(crate) form: &'static str,
    places: &'static [Place],
}

const fn key(name: &'static str, form: &'static str, places: &'static [Place]) -> Key {
    Key { name, form, places }
}

const TYPE: &[Place] = &[Place::Type];
const FIELD: &[Place] = &[Place::Field];
const BOTH: &[Place] = &[Place::Type, Place::Field];

const KEYS: [Key; 18] = [
    key("timeout", "timeout = \"5s\"", BOTH),
    key("at_most", "at_most = \"60s\"", BOTH),
    key("name", "name = \"server\"", TYPE),
    key("part", "part", TYPE),
    key("strict", "strict", TYPE),
    key("no_drop", "no_drop", TYPE),
    key("crate", "crate = path::to::lifecycle_runtime", TYPE),
    key("priority", "priority = 10", FIELD),
    key("after", "after = field", FIELD),
    key("with", "with = |value| value.close()", FIELD),
    key("take", "take", FIELD),
    key("abort", "abort = |value| value.kill()", FIELD),
    key("blocking", "blocking", FIELD),
    key("leaf", "leaf", FIELD),
    key("required", "required", FIELD),
    key("best_effort", "best_effort", FIELD),
    key("skip", "skip", FIELD),
    key("state", "state", FIELD),
];

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
pub(crate) fn find(name: &str, place: Place) -> Option<&'static Key> {
    KEYS.iter()
        .find(|key| key.name == name && key.places.contains(&place))
}

/// How a key is written; for texts.
pub(crate) fn form(name: &str) -> &'static str {
    KEYS.iter()
        .find(|key| key.name == name)
        .map_or("", |key| key.form)
}

/// What to say of a key that has no meaning here: what is wrong, and what to write instead.
pub(crate) fn stray(name: &str, place: Place) -> (String, String) {
    if let Some(key) = KEYS.iter().find(|key| key.name == name) {
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
    let here = KEYS
        .iter()
        .filter(|key| key.places.contains(&place))
        .map(|key| key.name);
    match nearest(name, here).or_else(|| nearest(name, KEYS.iter().map(|key| key.name))) {
        Some(meant) if find(meant, place).is_some() => (what, format!("did you mean `{meant}`?")),
        Some(meant) => (
            what,
            format!(
                "did you mean `{meant}`, which belongs on {}?",
                other(place).text()
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
        None => format!("it belongs on {}", other(place).text()),
    }
}

fn misplaced(key: &Key, place: Place) -> (String, String) {
    let what = format!(
        "`{}` belongs on {}, not on {}",
        key.name,
        other(place).text(),
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

fn other(place: Place) -> Place {
    match place {
        Place::Type => Place::Field,
        Place::Field => Place::Type,
    }
}

fn all(place: Place) -> String {
    let names: Vec<_> = KEYS
        .iter()
        .filter(|key| key.places.contains(&place))
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

//! Tests that the tables of keys in the documentation match the keys of the derive.

use std::fs;
use std::path::Path;

use crate::attr::{FIELD_KEYS, Key, TYPE_KEYS};

#[test]
fn the_documentation_has_a_row_for_each_key() {
    let runtime = Path::new(env!("CARGO_MANIFEST_DIR")).join("../lifecycle-runtime");
    if !runtime.exists() {
        // The test is skipped there: the published crate does not contain the runtime.
        return;
    }
    let docs = fs::read_to_string(runtime.join("src/derive.md")).expect("the documentation");
    for (heading, keys) in [("# On the type", TYPE_KEYS), ("# On a field", FIELD_KEYS)] {
        let section = docs.split(heading).nth(1).unwrap_or_default();
        let found: Vec<_> = section
            .lines()
            .skip_while(|line| !line.starts_with("|---"))
            .skip(1)
            .take_while(|line| line.starts_with('|'))
            .collect();
        let expected: Vec<_> = keys.iter().map(row).collect();
        assert_eq!(
            found,
            expected,
            "below `{heading}` in derive.md belongs:\n{}",
            expected.join("\n")
        );
    }
}

fn row(key: &Key) -> String {
    let spellings: Vec<_> = key
        .spellings
        .iter()
        .map(|spelling| format!("`{}`", spelling.replace('|', "\\|")))
        .collect();
    format!("| {} | {} |", spellings.join(", "), key.meaning)
}

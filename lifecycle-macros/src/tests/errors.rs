//! Tests that every mistake is reported once, and that no mistake causes another message.

use super::{derive, mistakes};

/// Returns the first line of each message.
fn first_lines(source: &str) -> Vec<String> {
    mistakes(source)
        .iter()
        .map(|text| text.lines().next().unwrap_or_default().to_owned())
        .collect()
}

/// Returns the source of an owner with the given field and a state.
fn owner(field: &str) -> String {
    format!("struct Server {{ {field}, #[shutdown(state)] state: ShutdownState }}")
}

#[test]
fn every_mistake_of_an_input_is_reported_at_once() {
    let found = first_lines(
        r#"
        #[shutdown(timeout = "0s", prt)]
        struct Server {
            #[shutdown(priority = "1", wiht = close)]
            a: u8,
            #[shutdown(after = nobody, required, best_effort)]
            b: u8,
            #[shutdown(skip, leaf)]
            c: u8,
        }
        "#,
    );
    assert_eq!(
        found,
        [
            "`0s` is zero: a step would be cut before it began",
            "unknown key `prt`",
            "`priority` must be an integer literal: the compiler checks the order",
            "unknown key `wiht`",
            "`required` and `best_effort` contradict each other: a failed `required` step stops all later steps, a failed `best_effort` step is ignored",
            "`leaf` has no effect beside `skip`: the field is not cleaned up",
            "`Server` has no field `nobody`",
        ]
    );
}

#[test]
fn a_misspelled_key_is_not_also_reported_as_missing() {
    for field in [
        "#[shutdown(prioirty = 1)] a: u8, #[shutdown(priority = 2)] b: u8",
        "#[shutdown(wiht = close, take, abort = kill, blocking)] a: Option<u8>",
        "#[shutdown(timeot = \"1s\", at_most = \"2s\")] a: u8",
        "#[shutdown(priority = 1.5)] a: u8, #[shutdown(priority = 2)] b: u8",
        "#[shutdown(after = c)] a: u8, #[shutdown(prioirty = 2)] c: u8",
    ] {
        assert_eq!(
            mistakes(&owner(field)).len(),
            1,
            "{field}: {:#?}",
            mistakes(&owner(field))
        );
    }
    assert_eq!(
        mistakes("struct Server { #[shutdown(stat)] state: ShutdownState }").len(),
        1
    );
    assert_eq!(mistakes("#[shutdown(prt)] struct Part;").len(), 1);
}

#[test]
fn a_broken_value_hides_none_of_the_keys_after_it() {
    let found = first_lines(&owner(
        "#[shutdown(with = |a| a +, timeout = \"1\", strange)] a: u8",
    ));
    assert_eq!(
        found,
        [
            "the value of `with` is not an expression",
            "`1` has no unit",
            "unknown key `strange`"
        ]
    );
}

#[test]
fn an_input_with_mistakes_still_has_its_traits() {
    let owner = derive(&owner("#[shutdown(strange)] a: u8")).to_string();
    assert!(owner.contains("Component for Server") && owner.contains("Owner for Server"));
    for part in [
        "#[shutdown(part, strange)] struct Part(u8);",
        "#[shutdown(strange)] enum Either {}",
    ] {
        let part = derive(part).to_string();
        assert!(
            part.contains("Component for") && !part.contains("Owner for"),
            "{part}"
        );
    }
}

#[test]
fn the_impls_of_an_input_with_mistakes_use_the_given_path_of_the_runtime() {
    let output = derive("#[shutdown(crate = crate::reexported, strange)] struct Part;").to_string();
    assert!(
        output.contains("use crate :: reexported :: __private as __lc"),
        "{output}"
    );
}

#[test]
fn an_input_that_is_not_a_type_gives_a_syntax_error_and_no_panic() {
    assert!(derive("fn main() {}").to_string().contains("compile_error"));
    assert!(derive("").to_string().contains("compile_error"));
}

//! Compiles every case. The cases of `pass/` must compile, and those of `fail/` must fail with the expected errors.
//!
//! The texts of errors differ between versions of the compiler, so only one version runs the cases of `fail/`. After a
//! change of an error, write the expected errors anew with `TRYBUILD=overwrite cargo test -p lifecycle-ui-tests`, and
//! read each of them as a newcomer would.

use std::process::Command;

/// The version of the compiler that wrote the `.stderr` files.
const PINNED: &str = include_str!("../rustc-version");

#[test]
fn mistakes_are_explained_and_correct_code_compiles() {
    let cases = trybuild::TestCases::new();
    cases.pass("pass/*.rs");
    let version = compiler();
    if version.starts_with(&format!("rustc {}.", PINNED.trim())) {
        cases.compile_fail("fail/*/*.rs");
    } else {
        println!("note: this is {version}; errors are compared on {PINNED} only");
    }
}

fn compiler() -> String {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .arg("--version")
        .output()
        .expect("the compiler that builds this");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

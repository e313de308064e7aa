//! Compiles every case of `fail/` and `pass/`.
//!
//! The texts of errors differ from compiler to compiler, so `fail/` is compared on one version only. Bless changes with
//! `TRYBUILD=overwrite cargo test -p lifecycle-ui-tests`, and read each of them as a newcomer would.

use std::process::Command;

/// The compiler whose words the `.stderr` files hold.
const PINNED: &str = include_str!("../rustc-version");

#[test]
fn mistakes_are_refused_in_words_that_teach_and_the_rest_compiles() {
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

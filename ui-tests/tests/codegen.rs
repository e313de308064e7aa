//! The compiler checks a budget that depends on a parameter only when it generates code. So `cargo build` refuses code
//! that `cargo check` accepts.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs};

#[test]
fn the_budget_of_a_type_parameter_is_proved_when_code_is_generated() {
    refused_when_built(
        "budget_of_a_parameter",
        "inner 9s + pool 2s = 11s, but the timeout of `Server` is 10s",
    );
}

#[test]
fn the_budget_of_a_constant_parameter_is_proved_when_code_is_generated() {
    refused_when_built(
        "budget_of_a_constant",
        "inner 9s + pool 2s = 11s, but the timeout of `Server` is 10s",
    );
}

fn refused_when_built(case: &str, message: &str) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("codegen")
        .join(case)
        .with_extension("rs");
    let candidates = runtimes();
    // The folder may also have builds of the runtime with other features or of other versions. The test uses the newest
    // build with which its source compiles.
    let runtime = candidates
        .iter()
        .find(|runtime| compile(&source, runtime, "metadata").status.success());
    let Some(runtime) = runtime else {
        let output = candidates
            .first()
            .map(|runtime| compile(&source, runtime, "metadata"));
        panic!(
            "checking alone must not refuse it: {}",
            output.as_ref().map_or_else(String::new, text)
        );
    };
    let output = compile(&source, runtime, "obj");
    assert!(!output.status.success(), "it was built");
    assert!(text(&output).contains(message), "{}", text(&output));
}

/// Compiles a crate as `cargo check` does (`emit` is `metadata`) or as `cargo build` does.
fn compile(source: &Path, runtime: &Path, emit: &str) -> Output {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    Command::new(rustc)
        .args([
            "--crate-type=lib",
            "--edition=2024",
            "--emit",
            emit,
            "--out-dir",
            env!("CARGO_TARGET_TMPDIR"),
        ])
        .arg("--extern")
        .arg(format!("lifecycle_runtime={}", runtime.display()))
        .arg("-L")
        .arg(format!("dependency={}", folder().display()))
        .arg(source)
        .output()
        .expect("the compiler that built this")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Returns the folder with the program of this test and its compiled dependencies.
fn folder() -> PathBuf {
    let mut folder = env::current_exe().expect("this test");
    folder.pop();
    folder
}

/// Returns the compiled builds of `lifecycle_runtime` in that folder, the newest first.
fn runtimes() -> Vec<PathBuf> {
    let files = fs::read_dir(folder())
        .expect("the folder of this test")
        .map(|file| file.expect("a file").path());
    let mut found: Vec<_> = files
        .filter(|path| {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            name.starts_with("liblifecycle_runtime-") && name.ends_with(".rlib")
        })
        .collect();
    found.sort_by_key(|path| fs::metadata(path).and_then(|data| data.modified()).ok());
    found.reverse();
    found
}

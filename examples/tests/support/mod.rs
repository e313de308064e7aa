//! Runs the examples as processes.

use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

/// The time after which an example counts as hanging. No example takes more than three seconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until an example has ended, and kills it if that takes too long.
pub(crate) fn wait(child: &mut Child, name: &str) -> ExitStatus {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("the example is our child") {
            return status;
        }
        if begun.elapsed() > PATIENCE {
            child.kill().expect("the example is our child");
            panic!("{name} does not end by itself");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Returns the path of an example. Cargo tells tests the paths of binaries, but not of examples, which
/// are in `<profile>/examples/NAME` beside `<profile>/deps/THIS`.
pub(crate) fn example(name: &str) -> PathBuf {
    let this = std::env::current_exe().expect("a test knows its own path");
    let profile = this
        .parent()
        .and_then(Path::parent)
        .expect("a test is in `deps`");
    let path = profile
        .join("examples")
        .join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(
        path.exists(),
        "{} is missing: `cargo test -p lifecycle-examples` builds it, `--test run` does not",
        path.display()
    );
    path
}

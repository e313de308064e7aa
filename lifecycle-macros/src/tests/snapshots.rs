//! Tests that compare expansions with the snapshots in `ui-tests/expand`. `BLESS=1 cargo test -p lifecycle-macros
//! snapshots` writes the snapshots anew.

use std::path::{Path, PathBuf};
use std::{env, fs};

use super::parsed;

#[test]
fn expansions_match_their_snapshots() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ui-tests/expand");
    let Ok(entries) = fs::read_dir(&folder) else {
        // The test is skipped if there is no folder: the published crate does not contain it.
        assert!(
            !folder.parent().is_some_and(Path::exists),
            "no folder {}",
            folder.display()
        );
        return;
    };
    let files = entries.map(|entry| entry.expect("a file").path());
    let mut inputs: Vec<PathBuf> = files
        .filter(|path| path.extension().is_some_and(|end| end == "rs"))
        .collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "no case in {}", folder.display());
    for input in inputs {
        compare(&input);
    }
}

fn compare(input: &Path) {
    let source = fs::read_to_string(input).expect("a case");
    let expansion = prettyplease::unparse(&parsed(&source));
    let snapshot = input.with_extension("expanded");
    if env::var_os("BLESS").is_some() {
        fs::write(&snapshot, expansion).expect("a snapshot");
        return;
    }
    let expected = fs::read_to_string(&snapshot).unwrap_or_default();
    assert!(
        expected == expansion,
        "{} differs from the expansion. Read it, then write it anew with `BLESS=1`:\n{expansion}",
        snapshot.display()
    );
}

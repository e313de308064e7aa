//! A process that is killed while it saves leaves the old state or the new one on disk.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, SystemTime};

use lifecycle_runtime::StateFile;
use lifecycle_tests::{Counted, secs};

/// Returns how often a process is killed: 100 times, or `LIFECYCLE_KILL_ROUNDS` times.
fn rounds() -> u64 {
    let rounds = std::env::var("LIFECYCLE_KILL_ROUNDS");
    rounds.map_or(100, |rounds| rounds.parse().expect("a number of rounds"))
}

/// Returns the time after which the process is killed in this round. It is within about one and a half saves, and the
/// same in every test run.
fn moment(round: u64) -> Duration {
    let mixed = round.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    Duration::from_micros(mixed % 6_000)
}

/// Starts a process that saves, and kills it after the time `after`. Returns the last number that it had saved, and the
/// last number that it had begun to save.
fn killed(directory: &Path, after: Duration) -> (u64, u64) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_saves_state"))
        // The path is relative and names no directory, so the file is in the current directory.
        .args(["until-killed", "counted.json"])
        .current_dir(directory)
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut out = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
    let mut said = String::new();
    out.read_line(&mut said).expect("it says what it saves");
    // The file must be whole at any moment, so the sleep need not be exact. It only chooses the moment.
    thread::sleep(after);
    child.kill().expect("it saves until it is killed");
    out.read_to_string(&mut said)
        .expect("it says what it saves");
    child.wait().expect("it was killed");

    let last = |what: &str| {
        let mut lines = said.lines().rev();
        let number = lines.find_map(|line| line.strip_prefix(what));
        number.map(|number| number.parse().expect("a number"))
    };
    let begun = last("saving ").expect("a save was begun");
    (last("saved ").unwrap_or(begun - 1), begun)
}

#[tokio::test]
async fn a_file_whose_save_was_killed_has_the_old_state_or_the_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("counted.json");
    for round in 0..rounds() {
        let (saved, begun) = killed(directory.path(), moment(round));
        let file = StateFile::<Counted>::open(&path, "counted", 1)
            .await
            .unwrap();
        let number = file.read(Counted::number);
        assert!(
            (saved..=begun).contains(&number),
            "round {round}: it is {number}, {saved} was saved and {begun} begun"
        );
        assert_eq!(file.restored().is_some(), number > 0, "round {round}");
    }
    assert_only_young_temporaries_are_left(directory.path());
    age(directory.path());
    StateFile::<Counted>::open(&path, "counted", 1)
        .await
        .unwrap();
    assert_eq!(
        names(directory.path()),
        ["counted.json"],
        "old ones are swept up"
    );
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect()
}

fn assert_only_young_temporaries_are_left(directory: &Path) {
    for name in names(directory) {
        let temporary = name.starts_with(".counted.json.") && name.ends_with(".tmp");
        assert!(
            temporary || name == "counted.json",
            "{name}: was one set aside?"
        );
    }
}

/// Sets the modification times of all files in the directory back by two minutes.
fn age(directory: &Path) {
    for name in names(directory) {
        let file = fs::File::options().append(true).open(directory.join(name));
        file.unwrap()
            .set_modified(SystemTime::now() - secs(120))
            .unwrap();
    }
}

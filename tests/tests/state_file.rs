//! A state file is whole at any moment, records when it was saved, and is never fatal.

use std::fs;
use std::future::Future;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use lifecycle_runtime::{Component, GracefulShutdown, Outcome, ShutdownState, StateFile};
use lifecycle_tests::{Counted, Logs, Probe, Process, Trace, context, ms, secs};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::runtime::Builder;
use tokio::time::sleep;
use tokio_test::task::spawn;
use tokio_test::{assert_pending, assert_ready};
use tracing::Level;

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Peers {
    known: Vec<String>,
}

async fn open(path: impl AsRef<Path>) -> StateFile<Peers> {
    StateFile::open(path, "peers", 2).await.unwrap()
}

fn add(file: &StateFile<Peers>, peer: &str) {
    file.update(|peers| peers.known.push(peer.into()));
}

fn known(file: &StateFile<Peers>) -> String {
    file.read(|peers| peers.known.join(" "))
}

/// Returns a directory, and the path of a file in it that does not exist yet.
fn temporary_path() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("peers.json");
    (directory, path)
}

/// Returns the names in a directory, in order.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Converts a time to milliseconds since 1970, as a state file keeps it.
fn to_millis(time: SystemTime) -> u128 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_millis()
}

#[tokio::test]
async fn without_a_file_the_state_is_the_default() {
    let (directory, path) = temporary_path();
    let (logs, guard) = Logs::capture();
    let file = open(&path).await;
    drop(guard);
    assert_eq!(known(&file), "");
    assert_eq!(file.restored(), None);
    assert_eq!(file.path(), path);
    assert!(logs.all().is_empty(), "{logs:#?}");
    assert!(names(directory.path()).is_empty());
}

#[tokio::test]
async fn a_saved_state_is_restored_with_its_times_and_version() {
    let (directory, path) = temporary_path();
    let file = open(&path).await;
    add(&file, "a");
    let before = to_millis(SystemTime::now());
    file.save().await.unwrap();
    let after = to_millis(SystemTime::now());

    let again = open(&path).await;
    assert_eq!(known(&again), "a");
    let saved = again.restored().unwrap();
    assert!(
        (before..=after).contains(&to_millis(saved.saved_at)),
        "{saved:?}"
    );
    assert_eq!(saved.shutdown_at, None, "there was no shutdown");
    assert_eq!(saved.version, 2);
    assert_eq!(
        names(directory.path()),
        ["peers.json"],
        "and nothing else is left"
    );
}

#[tokio::test]
async fn a_shutdown_saves_the_state_and_its_own_time() {
    let (_directory, path) = temporary_path();
    let mut file = open(&path).await;
    add(&file, "a");
    let before = to_millis(SystemTime::now());
    file.cleanup(&context()).await.unwrap();
    let after = to_millis(SystemTime::now());

    let again = open(&path).await;
    assert_eq!(known(&again), "a");
    let shutdown_at = again.restored().unwrap().shutdown_at.unwrap();
    assert!((before..=after).contains(&to_millis(shutdown_at)));

    add(&again, "b");
    again.save().await.unwrap();
    let third = open(&path).await;
    let saved = third.restored().unwrap();
    assert_eq!(saved.shutdown_at, None, "the mark is of the last save");
}

#[tokio::test]
async fn a_shutdown_saves_its_time_although_nothing_changed() {
    let (_directory, path) = temporary_path();
    open(&path).await.cleanup(&context()).await.unwrap();
    assert!(open(&path).await.restored().unwrap().shutdown_at.is_some());
}

#[tokio::test]
async fn an_unchanged_state_is_not_saved() {
    let (directory, path) = temporary_path();
    let file = open(&path).await;
    file.save().await.unwrap();
    assert!(names(directory.path()).is_empty());
    add(&file, "a");
    file.save().await.unwrap();
    fs::remove_file(&path).unwrap();
    file.save().await.unwrap();
    assert!(names(directory.path()).is_empty());
}

#[tokio::test]
async fn a_file_of_an_older_version_is_read() {
    #[derive(Default, Serialize, Deserialize)]
    struct Newer {
        known: Vec<String>,
        #[serde(default)]
        score: u32,
    }
    let (_directory, path) = temporary_path();
    let file = open(&path).await;
    add(&file, "a");
    file.save().await.unwrap();

    let newer = StateFile::<Newer>::open(&path, "peers", 3).await.unwrap();
    assert_eq!(
        newer.read(|newer| (newer.known.join(" "), newer.score)),
        ("a".into(), 0)
    );
    assert_eq!(newer.restored().unwrap().version, 2);
    newer.update(|newer| newer.score = 7);
    newer.save().await.unwrap();
    let again = StateFile::<Newer>::open(&path, "peers", 3).await.unwrap();
    assert_eq!(again.restored().unwrap().version, 3);
}

/// Opens a state file with a content that cannot be used. Asserts that the file is renamed unchanged, and that the log
/// contains `words`.
async fn assert_set_aside(content: &[u8], words: &[&str]) {
    let (directory, path) = temporary_path();
    fs::write(&path, content).unwrap();
    let (logs, guard) = Logs::capture();
    let file = open(&path).await;
    drop(guard);

    let warning = match &*logs.all() {
        [warning] => warning.clone(),
        events => panic!("{words:?}: {events:#?}"),
    };
    assert_eq!(warning.level, Level::WARN);
    assert!(warning.name.contains("set aside"), "{warning:?}");
    assert_eq!(warning.field("path"), path.display().to_string());
    for word in words {
        assert!(warning.field("error").contains(word), "{word}: {warning:?}");
    }
    let aside = PathBuf::from(warning.field("aside"));
    assert_eq!(aside.parent(), Some(directory.path()));
    assert_eq!(fs::read(&aside).unwrap(), content, "the file is unchanged");

    assert_eq!((known(&file), file.restored()), (String::new(), None));
    add(&file, "new");
    file.save().await.unwrap();
    assert_eq!(known(&open(&path).await), "new");
    assert_eq!(
        fs::read(&aside).unwrap(),
        content,
        "a save leaves the file set aside unchanged"
    );
}

/// Returns the content of a file with this format, name, version and state.
fn content(format: &str, name: &str, version: u32, state: &str) -> Vec<u8> {
    format!(
        r#"{{"format":"{format}","name":"{name}","version":{version},
            "saved_at":1700000000000,"shutdown_at":null,"state":{state}}}"#
    )
    .into_bytes()
}

#[tokio::test]
async fn a_damaged_file_is_set_aside() {
    let whole = content("lifecycle-state", "peers", 2, r#"{"known":["a"]}"#);
    for length in [0, 1, whole.len() / 2, whole.len() - 1] {
        assert_set_aside(&whole[..length], &["damaged"]).await;
    }
    assert_set_aside(&vec![0; whole.len()], &["damaged"]).await;
    assert_set_aside(&[whole.as_slice(), b"}"].concat(), &["damaged"]).await;
    assert_set_aside(b"\xff\xfe", &["damaged"]).await;
}

#[tokio::test]
async fn a_file_of_another_program_is_set_aside() {
    let state = r#"{"known":["a"]}"#;
    let other = content("lifecycle-state", "sessions", 2, state);
    assert_set_aside(&other, &["another program", "sessions"]).await;
    let foreign = content("other-state", "peers", 2, state);
    assert_set_aside(&foreign, &["another program", "other-state"]).await;
    assert_set_aside(br#"{"known":["a"]}"#, &["damaged"]).await;
}

#[tokio::test]
async fn a_newer_version_is_set_aside() {
    let newer = content("lifecycle-state", "peers", 3, r#"{"known":["a"]}"#);
    assert_set_aside(&newer, &["version 3", "newer than 2"]).await;
}

#[tokio::test]
async fn a_state_that_does_not_fit_is_set_aside() {
    let other = content("lifecycle-state", "peers", 1, r#"{"known":"a"}"#);
    assert_set_aside(&other, &["version 1", "does not fit version 2"]).await;
}

#[tokio::test]
async fn two_files_set_aside_are_both_kept() {
    let (directory, path) = temporary_path();
    for damaged in ["one", "two"] {
        fs::write(&path, damaged).unwrap();
        open(&path).await;
    }
    let mut kept: Vec<_> = names(directory.path())
        .iter()
        .map(|name| fs::read_to_string(directory.path().join(name)).unwrap())
        .collect();
    kept.sort();
    assert_eq!(kept, ["one", "two"]);
}

#[tokio::test]
async fn a_save_keeps_the_permissions_of_the_file() {
    let (_directory, path) = temporary_path();
    let file = open(&path).await;
    add(&file, "a");
    file.save().await.unwrap();
    let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600, "only the owner can read a new file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    add(&file, "b");
    file.save().await.unwrap();
    assert_eq!(mode(), 0o640);
}

#[tokio::test]
async fn a_failed_save_names_the_file_and_the_next_one_tries_again() {
    let (directory, _) = temporary_path();
    let path = directory.path().join("not there/peers.json");
    let file = open(&path).await;
    add(&file, "a");
    let error = file.save().await.unwrap_err().to_string();
    assert!(error.contains(&path.display().to_string()), "{error}");
    fs::create_dir(path.parent().unwrap()).unwrap();
    file.save().await.unwrap();
    assert_eq!(known(&open(&path).await), "a");
}

#[derive(GracefulShutdown)]
#[shutdown(timeout = "10s")]
struct Server {
    #[shutdown]
    peers: StateFile<Peers>,
    #[shutdown]
    pool: Probe,
    #[shutdown(state)]
    state: ShutdownState,
}

async fn server(path: &Path, trace: &Trace) -> Server {
    let server = Server {
        peers: open(path).await,
        pool: Probe::new(trace, "pool"),
        state: ShutdownState::new(),
    };
    add(&server.peers, "a");
    server
}

#[tokio::test]
async fn a_state_file_in_a_field_is_a_step() {
    let (_directory, path) = temporary_path();
    let report = server(&path, &Trace::new()).await.shutdown().await;
    assert!(
        report.step("peers").unwrap().outcome().is_done(),
        "{report}"
    );
    assert!(open(&path).await.restored().unwrap().shutdown_at.is_some());
}

#[tokio::test]
async fn a_save_that_fails_fails_the_step_and_the_others_run() {
    let (directory, _) = temporary_path();
    let trace = Trace::new();
    let path = directory.path().join("not there/peers.json");
    let report = server(&path, &trace).await.shutdown().await;
    let outcome = report.step("peers").unwrap().outcome();
    assert!(matches!(outcome, Outcome::Failed(_)), "{report}");
    assert!(outcome.to_string().contains("peers.json"), "{report}");
    assert_eq!(trace.count("pool ends"), 1);
}

#[tokio::test]
async fn a_state_file_behind_an_arc_is_a_component() {
    let (_directory, path) = temporary_path();
    let mut file = Arc::new(open(&path).await);
    add(&file, "a");
    file.cleanup(&context()).await.unwrap();
    assert_eq!(known(&open(&path).await), "a");
}

#[tokio::test]
async fn nothing_is_saved_on_drop() {
    let (directory, path) = temporary_path();
    let server = server(&path, &Trace::new()).await;
    drop(server);
    assert!(names(directory.path()).is_empty());
}

/// Sleeps on paused time. It advances only when the blocking pool is idle, so pending file operations end first.
async fn let_time_pass(time: Duration) {
    sleep(time).await;
}

#[tokio::test(start_paused = true)]
async fn a_changed_state_is_saved_periodically() {
    let (_directory, path) = temporary_path();
    let file = open(&path).await;
    let saves = tokio::spawn(file.save_every(secs(10)));
    let_time_pass(secs(1)).await;
    assert!(!path.exists(), "nothing changed");
    add(&file, "a");
    let_time_pass(secs(8)).await;
    assert!(!path.exists(), "not yet");
    let_time_pass(secs(2)).await;
    assert_eq!(known(&open(&path).await), "a");
    fs::remove_file(&path).unwrap();
    let_time_pass(secs(25)).await;
    assert!(!path.exists(), "nothing changed");
    add(&file, "b");
    let_time_pass(secs(10)).await;
    assert_eq!(known(&open(&path).await), "a b");
    saves.abort();
    assert!(saves.await.unwrap_err().is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn a_failed_periodic_save_is_logged_and_tried_again() {
    let (directory, _) = temporary_path();
    let path = directory.path().join("not there/peers.json");
    let (logs, guard) = Logs::capture();
    let file = open(&path).await;
    add(&file, "a");
    let saves = tokio::spawn(file.save_every(secs(10)));
    let_time_pass(secs(11)).await;
    let failed = logs.named("a state file was not saved");
    assert_eq!(failed.len(), 2, "at 0 s and 10 s: {logs:#?}");
    assert_eq!(failed[0].level, Level::WARN);
    assert_eq!(failed[0].field("path"), path.display().to_string());
    fs::create_dir(path.parent().unwrap()).unwrap();
    let_time_pass(secs(10)).await;
    assert_eq!(known(&open(&path).await), "a");
    assert_eq!(logs.named("a state file was not saved").len(), 2);
    saves.abort();
    drop(guard);
}

#[tokio::test(start_paused = true)]
async fn a_period_of_zero_is_not_a_busy_loop() {
    let (_directory, path) = temporary_path();
    let file = open(&path).await;
    let saves = tokio::spawn(file.save_every(Duration::ZERO));
    add(&file, "a");
    let_time_pass(ms(5)).await;
    assert_eq!(known(&open(&path).await), "a");
    saves.abort();
}

/// Runs a test on a runtime whose blocking pool has one thread, which blocks until the test drops its [`Release`].
fn with_held_disk<F: Future<Output = ()>>(test: impl FnOnce(Release) -> F) {
    let runtime = Builder::new_current_thread()
        .max_blocking_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (release, held) = std::sync::mpsc::channel::<()>();
    runtime.block_on(async {
        tokio::task::spawn_blocking(move || held.recv());
        test(Release(release)).await;
    });
}

/// A guard that keeps the blocking pool's thread blocked until it is dropped.
struct Release(
    #[expect(dead_code, reason = "its drop is what is heard")] std::sync::mpsc::Sender<()>,
);

/// A state that counts how often it is serialized.
#[derive(Default)]
struct CountsSerializations {
    number: u32,
    made: Arc<AtomicU32>,
}

impl Serialize for CountsSerializations {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.made.fetch_add(1, Ordering::Relaxed);
        self.number.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for CountsSerializations {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u32::deserialize(deserializer)?;
        Ok(Self {
            number,
            made: Arc::default(),
        })
    }
}

/// Opens a state file on a new runtime, which ends with this function.
fn opened(path: &Path) -> StateFile<CountsSerializations> {
    let runtime = Builder::new_current_thread().build().unwrap();
    runtime.block_on(StateFile::open(path, "texts", 1)).unwrap()
}

async fn saved(path: &Path) -> u32 {
    let file = StateFile::<CountsSerializations>::open(path, "texts", 1)
        .await
        .unwrap();
    file.read(|texts| texts.number)
}

#[test]
fn a_change_during_a_save_is_saved_by_the_next_one() {
    let (_directory, path) = temporary_path();
    let file = opened(&path);
    with_held_disk(async |release| {
        file.update(|texts| texts.number = 1);
        let mut first = spawn(file.save());
        assert_pending!(first.poll());
        file.update(|texts| texts.number = 2);
        drop(release);
        first.await.unwrap();
        assert_eq!(saved(&path).await, 1);
        file.save().await.unwrap();
        assert_eq!(saved(&path).await, 2);
    });
}

#[test]
fn a_dropped_save_goes_on_and_a_later_one_waits_for_it() {
    let (_directory, path) = temporary_path();
    let file = opened(&path);
    let made = file.read(|texts| Arc::clone(&texts.made));
    with_held_disk(async |release| {
        file.update(|texts| texts.number = 1);
        let mut first = spawn(file.save());
        assert_pending!(first.poll());
        drop(first);
        file.update(|texts| texts.number = 2);
        let mut second = spawn(file.save());
        assert_pending!(second.poll());
        assert_eq!(
            made.load(Ordering::Relaxed),
            1,
            "the first is still to be written"
        );
        drop(release);
        second.await.unwrap();
        assert_eq!(
            saved(&path).await,
            2,
            "the last to be begun is the last on the disk"
        );
    });
}

#[test]
fn concurrent_saves_run_one_after_the_other() {
    let (_directory, path) = temporary_path();
    let file = opened(&path);
    let made = file.read(|texts| Arc::clone(&texts.made));
    with_held_disk(async |release| {
        file.update(|texts| texts.number = 1);
        let mut first = spawn(file.save());
        let mut second = spawn(file.save());
        assert_pending!(first.poll());
        assert_pending!(second.poll());
        drop(release);
        first.await.unwrap();
        assert!(second.is_woken());
        assert_ready!(second.poll()).unwrap();
        assert_eq!(
            made.load(Ordering::Relaxed),
            1,
            "nothing was left for the second"
        );
    });
}

#[test]
fn a_state_that_cannot_be_serialized_is_a_failed_save() {
    let (directory, path) = temporary_path();
    let runtime = Builder::new_current_thread().build().unwrap();
    type Odd = std::collections::BTreeMap<Vec<u8>, u8>;
    let error = runtime.block_on(async {
        let file = StateFile::<Odd>::open(&path, "odd", 1).await.unwrap();
        file.update(|odd| odd.insert(vec![1], 1));
        file.save().await.unwrap_err()
    });
    assert!(error.to_string().contains("key"), "{error}");
    assert!(names(directory.path()).is_empty());
}

/// Runs a process that fails to save, and asserts that the old file stays whole.
fn assert_save_fails(how: &str, why: &str, prepare: impl FnOnce(&Path)) {
    let (directory, path) = temporary_path();
    let runtime = Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let file = StateFile::<Counted>::open(&path, "counted", 1)
            .await
            .unwrap();
        file.update(|counted| *counted = Counted::of(5));
        file.save().await.unwrap();
    });
    let old = fs::read(&path).unwrap();
    prepare(directory.path());
    let saving = Process::start(
        env!("CARGO_BIN_EXE_saves_state"),
        &[how, path.to_str().unwrap()],
    );
    let ended = saving.end();
    assert_eq!(ended.code, Some(3), "{ended:#?}");
    assert!(ended.says(&["failed:", "peers.json", why]), "{ended:#?}");
    assert_eq!(fs::read(&path).unwrap(), old);
    assert_eq!(
        names(directory.path()),
        ["peers.json"],
        "there are no other files"
    );
}

#[test]
fn a_full_disk_is_a_failed_save_and_leaves_the_old_file_whole() {
    assert_save_fails("too-large", "File too large", |_| {});
}

#[test]
fn a_read_only_directory_is_a_failed_save_and_leaves_the_old_file_whole() {
    assert_save_fails("read-only", "Permission denied", |directory| {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o555)).unwrap();
    });
}

#[tokio::test]
async fn temporary_files_of_killed_saves_are_removed_once_they_are_old() {
    let (directory, path) = temporary_path();
    let file = open(&path).await;
    add(&file, "a");
    file.save().await.unwrap();
    let left = |name: &str, old: bool| {
        let file = fs::File::create(directory.path().join(name)).unwrap();
        if old {
            let then = SystemTime::now() - secs(120);
            file.set_modified(then).unwrap();
        }
    };
    left(".peers.json.abcdef.tmp", true);
    left(".peers.json.young.tmp", false);
    left(".others.json.abcdef.tmp", true);
    left("notes.tmp", true);
    assert_eq!(known(&open(&path).await), "a");
    assert_eq!(
        names(directory.path()),
        [
            ".others.json.abcdef.tmp",
            ".peers.json.young.tmp",
            "notes.tmp",
            "peers.json"
        ]
    );
}

/// Opens a file that cannot be read. Asserts that the error contains the path and `words`, and that the file stays as
/// it is.
async fn assert_refused(path: &Path, words: &[&str]) {
    let before = names(path.parent().unwrap());
    let (logs, guard) = Logs::capture();
    let error = StateFile::<Peers>::open(path, "peers", 2)
        .await
        .unwrap_err()
        .to_string();
    drop(guard);
    assert!(error.contains(&path.display().to_string()), "{error}");
    assert!(words.iter().all(|word| error.contains(word)), "{error}");
    assert!(logs.all().is_empty(), "{logs:#?}");
    assert_eq!(names(path.parent().unwrap()), before, "nothing was changed");
}

#[tokio::test]
async fn a_directory_at_the_path_is_an_error_and_stays() {
    let (_directory, path) = temporary_path();
    fs::create_dir(&path).unwrap();
    fs::write(path.join("precious"), b"x").unwrap();
    assert_refused(&path, &["not a regular file"]).await;
    assert!(path.join("precious").exists());
}

#[tokio::test]
async fn a_pipe_at_the_path_is_an_error_and_is_not_read() {
    let (_directory, path) = temporary_path();
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    assert_refused(&path, &["not a regular file"]).await;
}

#[tokio::test]
async fn a_circle_of_links_is_an_error() {
    let (_directory, path) = temporary_path();
    std::os::unix::fs::symlink(&path, &path).unwrap();
    assert_refused(&path, &["too many symbolic links"]).await;
}

#[tokio::test]
async fn a_state_whose_deserialization_panics_is_an_error_and_its_file_stays() {
    #[derive(Debug, Default, Serialize)]
    struct Panics;
    impl<'de> Deserialize<'de> for Panics {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            panic!("while it was read")
        }
    }
    let (_directory, path) = temporary_path();
    let file = open(&path).await;
    add(&file, "a");
    file.save().await.unwrap();
    let content = fs::read(&path).unwrap();
    let error = StateFile::<Panics>::open(&path, "peers", 2)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("while it was read"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), content);
}

#[tokio::test]
async fn the_target_of_a_link_is_replaced_and_the_link_stays() {
    let (directory, link) = temporary_path();
    let elsewhere = directory.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let real = elsewhere.join("real.json");
    // The path is a relative symbolic link to another link, whose target does not exist yet.
    let between = directory.path().join("between");
    std::os::unix::fs::symlink(&real, &between).unwrap();
    std::os::unix::fs::symlink("between", &link).unwrap();
    for round in ["a", "b"] {
        let file = open(&link).await;
        add(&file, round);
        file.save().await.unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(fs::symlink_metadata(&between).unwrap().is_symlink());
        assert_eq!(names(&elsewhere), ["real.json"]);
    }
    assert_eq!(known(&open(&real).await), "a b");
    // If the content is damaged, the target of the link is renamed, and not the link.
    fs::write(&real, b"{").unwrap();
    assert_eq!(known(&open(&link).await), "");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(names(&elsewhere).len(), 1, "the damaged file, set aside");
}

#[test]
fn a_file_that_cannot_be_opened_now_is_an_error_and_is_read_later() {
    let (directory, path) = temporary_path();
    let runtime = Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let file = StateFile::<Counted>::open(&path, "counted", 1)
            .await
            .unwrap();
        file.update(|counted| *counted = Counted::of(5));
        file.save().await.unwrap();
    });
    let content = fs::read(&path).unwrap();
    // Another process, which has used up its descriptors, tries to open the file.
    let opening = Process::start(
        env!("CARGO_BIN_EXE_saves_state"),
        &["no-descriptors", path.to_str().unwrap()],
    );
    let ended = opening.end();
    assert_eq!(ended.code, Some(3), "{ended:#?}");
    assert!(
        ended.says(&["failed:", "peers.json", "Too many open files"]),
        "{ended:#?}"
    );
    assert_eq!(fs::read(&path).unwrap(), content);
    assert_eq!(
        names(directory.path()),
        ["peers.json"],
        "there are no other files"
    );
}

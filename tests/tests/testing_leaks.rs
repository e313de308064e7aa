//! A leak check names the descriptors, threads and tasks that were left behind.

use std::fs::File;
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread;

use lifecycle_runtime::TaskGroup;
use lifecycle_runtime::testing::{Leak, LeakCheck};

/// Must be the only test of this file: the check sees the whole process, and would count the threads of other tests.
#[tokio::test]
async fn a_leak_check_names_the_leaked_descriptors_threads_and_tasks() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("left.log");
    let known = File::create(directory.path().join("known.log")).unwrap();
    let check = LeakCheck::new();
    check.assert_none();
    assert_eq!(check.leaks(), []);

    // Files, threads and tasks that have ended are no leaks.
    drop(File::create(&path).unwrap());
    thread::spawn(|| {}).join().unwrap();
    tokio::spawn(async {}).await.unwrap();
    assert_ends_without_a_leak(&check);

    let file = File::create(&path).unwrap();
    let (end, held) = mpsc::channel::<()>();
    let (begins, begun) = mpsc::channel();
    let thread = thread::Builder::new()
        .name("left-behind".into())
        .spawn(move || {
            // The thread has set its name before this message, so the check sees the name.
            begins.send(()).unwrap();
            held.recv()
        })
        .unwrap();
    begun.recv().unwrap();
    let tasks = TaskGroup::new();
    tasks.spawn("one", pending::<()>()).unwrap();
    tasks.spawn("two", pending::<()>()).unwrap();

    let leaks = check.leaks();
    let [
        Leak::Fd { number, target },
        Leak::Thread { name, .. },
        Leak::Tasks { more },
    ] = &*leaks
    else {
        panic!("{leaks:?}");
    };
    assert_eq!(target, &path.display().to_string());
    let by_number = std::fs::read_link(format!("/proc/self/fd/{number}")).unwrap();
    assert_eq!(
        by_number, path,
        "the number is the one that the process has"
    );
    assert_eq!(name, "left-behind");
    assert_eq!(*more, 2);

    let failed = catch_unwind(AssertUnwindSafe(|| check.assert_none())).unwrap_err();
    let text = failed.downcast::<String>().unwrap();
    for part in [
        "leaked within the last",
        "left.log",
        "left-behind",
        "2 tasks",
    ] {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
    assert!(!text.contains("known.log"), "{text}");

    drop((file, tasks, end));
    let _ = thread.join().unwrap();
    tokio::task::yield_now().await;
    assert_ends_without_a_leak(&check);
    drop(known);
}

/// Asserts that the check finds no leak within a short time. A joined thread leaves the kernel's list of threads a
/// moment later.
fn assert_ends_without_a_leak(check: &LeakCheck) {
    for _ in 0..1_000 {
        if check.leaks().is_empty() {
            return;
        }
        thread::yield_now();
    }
    check.assert_none();
}

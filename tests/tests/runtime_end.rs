//! The end of the runtime: a call on its blocking pool that never returns cannot hold the process, and nothing else is cut.

use lifecycle_tests::{Ended, Process};
use rustix::process::Signal;

/// A server of `reads_stdin` that was told to stop, to its end. Its stdin stays open all the time.
fn ended(how: &str, timeout_ms: &str) -> Ended {
    let mut server = Process::start(env!("CARGO_BIN_EXE_reads_stdin"), &[how, timeout_ms]);
    server.wait_for("serving");
    server.signal(Signal::TERM);
    server.end()
}

const WAITS: &str = "the runtime waits for a call on its blocking pool (a read of stdin";

#[test]
fn a_pending_read_of_stdin_does_not_hold_the_process() {
    let ended = ended("reads", "500");
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(ended.says(&["report: true"]), "{ended:#?}");
    assert!(ended.says(&["! lifecycle:", WAITS]), "{ended:#?}");
}

#[test]
fn nor_does_it_on_a_current_thread_runtime() {
    let ended = ended("current-thread", "500");
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(ended.says(&["! lifecycle:", WAITS]), "{ended:#?}");
}

#[test]
fn a_process_that_ends_so_has_the_code_of_its_report_and_prints_it() {
    let ended = ended("fails", "500");
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    assert!(
        ended.says(&["! ", "failed", "the disk is full"]),
        "{ended:#?}"
    );
}

#[test]
fn what_a_program_does_while_its_runtime_lives_is_not_cut() {
    let ended = ended("goes-on", "300");
    assert!(ended.says(&["went on"]), "{ended:#?}");
    assert_eq!(ended.code, Some(0), "{ended:#?}");
}

#[test]
fn what_a_program_does_after_its_runtime_has_ended_is_not_cut() {
    let ended = ended("ends", "300");
    assert!(ended.says(&["main goes on"]), "{ended:#?}");
    assert!(!ended.says(&["! lifecycle:"]), "{ended:#?}");
    assert_eq!(ended.code, Some(0), "{ended:#?}");
}

#[test]
fn a_runner_on_another_thread_than_the_main_one_ends_no_process() {
    let ended = ended("elsewhere", "300");
    assert!(ended.says(&["the embedder goes on"]), "{ended:#?}");
    assert_eq!(ended.code, Some(9), "{ended:#?}");
}

#[test]
fn without_a_bound_another_signal_still_ends_it_and_says_what_holds_it() {
    let mut server = Process::start(env!("CARGO_BIN_EXE_reads_stdin"), &["reads"]);
    server.wait_for("serving");
    server.signal(Signal::TERM);
    server.wait_for("report: true");
    std::thread::sleep(std::time::Duration::from_secs(1)); // Later than a signal that is sent twice.
    server.signal(Signal::TERM);
    let ended = server.end();
    assert_eq!(ended.code, Some(128 + 15), "{ended:#?}");
    assert!(ended.says(&["! ", WAITS]), "{ended:#?}");
}

#[test]
fn the_watch_on_the_runtime_is_no_task_that_is_left_to_the_next_runner() {
    let ended = ended("runs-twice", "300");
    assert!(ended.says(&["tasks left: 0"]), "{ended:#?}");
    assert_eq!(ended.code, Some(0), "{ended:#?}");
}

//! When the runtime ends, a call on the blocking pool that never returns cannot keep the process alive. Nothing else is
//! cut.

use lifecycle_tests::{Ended, Process};
use rustix::process::Signal;

/// Starts a server of `reads_stdin`, sends it SIGTERM, and waits until it has ended. The server's stdin stays open
/// until then.
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
fn a_pending_read_of_stdin_does_not_hold_a_process_on_a_current_thread_runtime() {
    let ended = ended("current-thread", "500");
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(ended.says(&["! lifecycle:", WAITS]), "{ended:#?}");
}

#[test]
fn a_process_that_is_ended_this_way_prints_its_report_and_has_its_exit_code() {
    let ended = ended("fails", "500");
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    assert!(
        ended.says(&["! ", "failed", "the disk is full"]),
        "{ended:#?}"
    );
}

#[test]
fn a_program_whose_runtime_lives_on_is_not_ended() {
    let ended = ended("goes-on", "300");
    assert!(ended.says(&["went on"]), "{ended:#?}");
    assert_eq!(ended.code, Some(0), "{ended:#?}");
}

#[test]
fn a_program_that_goes_on_after_its_runtime_is_not_ended() {
    let ended = ended("ends", "300");
    assert!(ended.says(&["main goes on"]), "{ended:#?}");
    assert!(!ended.says(&["! lifecycle:"]), "{ended:#?}");
    assert_eq!(ended.code, Some(0), "{ended:#?}");
}

#[test]
fn a_runner_off_the_main_thread_never_ends_the_process() {
    let ended = ended("elsewhere", "300");
    assert!(ended.says(&["the embedder goes on"]), "{ended:#?}");
    assert_eq!(ended.code, Some(9), "{ended:#?}");
}

#[test]
fn without_a_runtime_timeout_another_signal_ends_the_process_and_says_what_held_it() {
    let mut server = Process::start(env!("CARGO_BIN_EXE_reads_stdin"), &["reads"]);
    server.wait_for("serving");
    server.signal(Signal::TERM);
    server.wait_for("report: true");
    std::thread::sleep(std::time::Duration::from_secs(1)); // More than the 500 ms in which a signal counts as a repeat.
    server.signal(Signal::TERM);
    let ended = server.end();
    assert_eq!(ended.code, Some(128 + 15), "{ended:#?}");
    assert!(ended.says(&["! ", WAITS]), "{ended:#?}");
}

#[test]
fn the_watch_on_the_runtime_does_not_count_as_a_task_left_to_the_next_runner() {
    let ended = ended("runs-twice", "300");
    assert!(ended.says(&["tasks left: 0"]), "{ended:#?}");
    assert_eq!(ended.code, Some(0), "{ended:#?}");
}

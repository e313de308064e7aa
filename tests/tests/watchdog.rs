//! A process with a watchdog ends in time, whatever keeps it from ending.

use lifecycle_tests::{Ended, Process};
use rustix::process::Signal;

fn start(how: &str) -> Process {
    Process::start(env!("CARGO_BIN_EXE_with_watchdog"), &[how])
}

/// Starts the server `how`, sends it SIGTERM, and returns how it ended.
fn after_sigterm(how: &str) -> Ended {
    let mut server = start(how);
    server.wait_for("serving");
    server.signal(Signal::TERM);
    server.end()
}

fn assert_forced(ended: &Ended) {
    assert_eq!(ended.code, Some(70), "{ended:#?}");
    assert!(
        ended.says(&["! ", "the end is forced by the watchdog"]),
        "{ended:#?}"
    );
}

#[test]
fn a_server_that_ends_in_time_never_sees_the_watchdog() {
    let ended = after_sigterm("clean");
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(!ended.says(&["! "]), "{ended:#?}");
}

#[test]
fn a_step_that_hangs_is_cut_by_the_engine_and_not_the_watchdog() {
    let ended = after_sigterm("hang");
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    assert!(
        ended.says(&["drain aborted"]) && ended.says(&["pool closed"]),
        "{ended:#?}"
    );
    assert!(!ended.says(&["the hook ran"]), "{ended:#?}");
}

#[test]
fn a_step_that_blocks_the_only_thread_is_named_with_what_the_others_wait_for() {
    let ended = after_sigterm("blocked-step");
    assert_forced(&ended);
    assert!(
        ended.says(&[
            "! ",
            "not done: drain was running and blocks the executor, waiting for 3 connections"
        ]),
        "{ended:#?}"
    );
    assert!(
        ended.says(&[
            "! ",
            "not done: relay was running, waiting for the mail relay"
        ]),
        "{ended:#?}"
    );
    assert!(
        ended.says(&["! ", "not done: pool had not begun"]),
        "{ended:#?}"
    );
    assert!(
        ended.says(&["! ", "did not abort the running steps"]),
        "{ended:#?}"
    );
    assert!(ended.says(&["the hook ran"]), "{ended:#?}");
    assert!(
        ended.says(&["executor_blocked: Server by drain, true"]),
        "it was said before: {ended:#?}"
    );
}

#[test]
fn a_waiting_for_closure_that_blocks_holds_up_neither_the_watchdog_nor_the_hooks() {
    let ended = after_sigterm("blocked-mute");
    assert_forced(&ended);
    assert!(
        ended.says(&["! ", "not done: drain was running and blocks the executor"]),
        "{ended:#?}"
    );
    assert!(ended.says(&["the hook ran"]), "{ended:#?}");
}

#[test]
fn an_executor_that_was_blocked_for_a_while_is_logged_and_nothing_is_forced() {
    let ended = after_sigterm("blocked-a-while");
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(
        ended.says(&["executor_blocked: Server by drain, true"]),
        "{ended:#?}"
    );
    let said = ended
        .lines
        .iter()
        .filter(|line| line.contains("executor_blocked"));
    assert_eq!(said.count(), 1, "once: {ended:#?}");
}

#[test]
fn an_executor_that_only_waits_is_not_taken_for_blocked() {
    let ended = after_sigterm("waits-a-while");
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(!ended.says(&["executor_blocked"]), "{ended:#?}");
}

#[test]
fn a_main_that_blocked_the_executor_before_anything_began_is_named() {
    let ended = after_sigterm("blocked-main");
    assert_forced(&ended);
    assert!(
        ended.says(&["! ", "main blocks the executor"]),
        "{ended:#?}"
    );
}

#[test]
fn a_request_that_a_blocked_executor_never_sees_is_seen_by_the_watchdog() {
    let mut server = start("blocked-main-asked");
    server.wait_for("serving");
    server.tell("end");
    let ended = server.end();
    assert_forced(&ended);
    assert!(
        ended.says(&["! ", "main blocks the executor"]),
        "{ended:#?}"
    );
}

#[test]
fn a_start_that_blocks_the_executor_cannot_hold_the_process() {
    let mut server = start("blocked-start");
    server.wait_for("starting");
    server.signal(Signal::TERM);
    let ended = server.end();
    assert_forced(&ended);
    assert!(
        ended.says(&["! ", "the start blocks the executor"]),
        "{ended:#?}"
    );
}

#[test]
fn a_server_whose_drop_blocks_cannot_hold_the_process() {
    let ended = after_sigterm("blocked-drop");
    assert_forced(&ended);
    assert!(ended.says(&["pool closed"]), "{ended:#?}");
    assert!(
        ended.says(&["! ", "dropping `Server` blocks the executor"]),
        "{ended:#?}"
    );
}

#[test]
fn a_blocking_call_that_holds_the_drop_of_the_runtime_cannot_hold_the_process() {
    let ended = after_sigterm("stuck-blocking");
    assert_forced(&ended);
    assert!(ended.says(&["report: true"]), "{ended:#?}");
    let waits = "every step has ended: the runtime waits for a call on its blocking pool";
    assert!(ended.says(&["! ", waits]), "{ended:#?}");
}

#[test]
fn a_blocking_step_that_was_left_behind_is_named_when_it_holds_the_process() {
    let ended = after_sigterm("left-blocking");
    assert_forced(&ended);
    let left = "left behind by store: its call on the blocking pool";
    assert!(ended.says(&["! ", left]), "{ended:#?}");
}

#[test]
fn a_server_without_a_watchdog_is_not_watched() {
    let ended = after_sigterm("unwatched");
    assert_eq!(ended.code, Some(9), "{ended:#?}");
    assert!(!ended.says(&["! "]), "{ended:#?}");
}

#[test]
fn block_on_returns_in_bounded_time_and_the_process_goes_on() {
    let ended = after_sigterm("block-on");
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(
        ended.says(&["block_on has returned"]) && ended.says(&["the process goes on"]),
        "{ended:#?}"
    );
}

#[test]
fn a_second_run_is_not_ended_by_the_watchdog_of_the_first() {
    let ended = start("two-runs").end();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(ended.says(&["the second has served"]), "{ended:#?}");
}

//! Real processes handle real signals: the first begins the shutdown, later ones hurry it and force the end.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

use lifecycle_tests::{Ended, Process};
use rustix::process::Signal;

fn stuck(how: &str) -> Process {
    Process::start(env!("CARGO_BIN_EXE_stuck"), &[how])
}

/// Starts a server, and waits until it serves.
fn serving(how: &str) -> Process {
    let mut server = stuck(how);
    server.wait_for("serving");
    server
}

/// Sends a server three signals, of which the second hurries and the third forces the end, and returns how it ended.
fn forced(mut server: Process, first: Signal, marker: &str, last: Signal) -> Ended {
    server.signal(first);
    if !marker.is_empty() {
        server.wait_for(marker);
    }
    server.no_longer_a_repeat();
    server.signal(first);
    server.no_longer_a_repeat();
    server.signal(last);
    server.end()
}

/// Sends a server SIGTERM, waits for a line with `marker`, sends SIGTERM again, and returns how the server ended.
fn signalled_twice(mut server: Process, marker: &str) -> Ended {
    server.signal(Signal::TERM);
    server.wait_for(marker);
    server.no_longer_a_repeat();
    server.signal(Signal::TERM);
    server.end()
}

#[test]
fn a_second_signal_cuts_the_best_effort_drain_and_the_save_after_it_still_runs() {
    let ended = signalled_twice(serving("long-drain"), "draining");
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(ended.says(&["drain aborted"]), "{ended:#?}");
    assert!(ended.says(&["saved"]), "{ended:#?}");
    assert!(ended.says(&["drain", "aborted", "hurried"]), "{ended:#?}");
}

#[test]
fn a_second_signal_cuts_main_and_the_plan_runs() {
    let ended = signalled_twice(serving("main"), "told");
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    assert!(ended.says(&["pool closed"]), "{ended:#?}");
    assert!(ended.says(&["main", "aborted", "hurried"]), "{ended:#?}");
}

#[test]
fn at_a_terminal_a_second_signal_says_what_it_cuts() {
    let check = |how: &str, markers: &[&str], cut: &str| {
        let mut server = Process::start_at_terminal(env!("CARGO_BIN_EXE_stuck"), &[how]);
        server.wait_for("serving");
        server.signal(Signal::TERM);
        for marker in markers {
            server.wait_for(marker);
        }
        server.no_longer_a_repeat();
        server.signal(Signal::TERM);
        let said = server.wait_for("lifecycle: hurrying");
        let expected = format!("lifecycle: hurrying{cut}; the rest of the shutdown runs");
        assert!(said.contains(&expected), "{how}: {said}");
    };
    // The steps of these servers never end by themselves, so only the signals end them.
    check("hurried", &["draining", "draining"], ", cache cut");
    check("main-hangs", &["told"], ", main cut");
    check("hang", &["draining"], "");
}

#[test]
fn a_second_signal_forces_the_end_with_second_signal_force() {
    let ended = signalled_twice(serving("second-forces"), "draining");
    assert_eq!(ended.code, Some(128 + 15), "{ended:#?}");
    assert!(
        ended.says(&["! ", "the end is forced by SIGTERM"]),
        "{ended:#?}"
    );
}

#[test]
fn after_sigterm_the_request_in_flight_finishes_new_ones_are_refused_and_the_exit_code_is_0() {
    let mut server = Process::start(env!("CARGO_BIN_EXE_line_server"), &[]);
    let listening = server.wait_for("listening on ");
    let address = listening.trim_start_matches("listening on ");
    let mut request = BufReader::new(TcpStream::connect(address).unwrap());
    let mut answer = String::new();
    request.get_mut().write_all(b"begin\n").unwrap();
    request.read_line(&mut answer).unwrap();
    assert_eq!(answer, "begun\n");

    server.signal(Signal::TERM);
    server.wait_for("refusing");
    assert!(
        TcpStream::connect(address).is_err(),
        "a new request is refused"
    );

    request.get_mut().write_all(b"finish\n").unwrap();
    request.read_line(&mut answer).unwrap();
    assert_eq!(answer, "begun\nfinished\n");
    let ended = server.end();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
}

#[test]
fn a_signal_that_is_repeated_at_once_is_the_same_request() {
    let mut server = serving("line");
    // The signals alternate, since the kernel may merge two pending signals of the same kind.
    for signal in [Signal::TERM, Signal::INT, Signal::TERM] {
        server.signal(signal);
    }
    server.wait_for("draining");
    server.tell("go");
    let ended = server.end();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(
        ended.says(&["drained"]) && ended.says(&["pool closed"]),
        "{ended:#?}"
    );
}

#[test]
fn a_hook_that_hangs_holds_up_neither_the_other_hooks_nor_the_process() {
    let ended = forced(
        serving("hang-twice"),
        Signal::TERM,
        "draining",
        Signal::TERM,
    );
    assert_eq!(ended.code, Some(128 + 15), "{ended:#?}");
    assert!(
        ended.says(&["the hook ran"]) && ended.says(&["so did the next"]),
        "{ended:#?}"
    );
    assert!(ended.says(&["drain aborted"]), "{ended:#?}");
}

#[test]
fn a_third_signal_forces_the_end_names_the_running_steps_and_runs_hooks_and_aborts() {
    let ended = forced(serving("hang"), Signal::TERM, "draining", Signal::TERM);
    assert_eq!(ended.code, Some(128 + 15), "{ended:#?}");
    assert!(ended.says(&["! ", "SIGTERM", "forced"]), "{ended:#?}");
    assert!(
        ended.says(&[
            "! ",
            "not done: drain was running, waiting for 3 connections"
        ]),
        "{ended:#?}"
    );
    assert!(
        ended.says(&["! ", "not done: pool had not begun"]),
        "{ended:#?}"
    );
    assert!(
        ended.says(&["the hook ran"]) && ended.says(&["so did the next"]),
        "{ended:#?}"
    );
    assert!(ended.says(&["drain aborted"]), "{ended:#?}");
    assert!(
        ended.says(&["forced by SIGTERM"]),
        "the report tells: {ended:#?}"
    );
}

#[test]
fn a_forced_end_names_the_running_element_and_runs_its_hooks() {
    let ended = forced(serving("elements"), Signal::TERM, "drained", Signal::TERM);
    assert_eq!(ended.code, Some(128 + 15), "{ended:#?}");
    assert!(
        ended.says(&[
            "! ",
            "not done: plugins[auth] was running, waiting for 3 connections"
        ]),
        "{ended:#?}"
    );
    assert!(
        !ended.says(&["! ", "not done: plugins[mail]"]),
        "{ended:#?}"
    );
    let hooks = ended
        .lines
        .iter()
        .filter(|line| line.contains("the hook ran"));
    assert_eq!(
        hooks.count(),
        1,
        "of the one that has not ended: {ended:#?}"
    );
    let aborts = ended
        .lines
        .iter()
        .filter(|line| line.contains("drain aborted"));
    assert_eq!(aborts.count(), 1, "{ended:#?}");
}

#[test]
fn a_forced_end_cuts_a_main_that_ignores_stop_and_polls_the_plan_once() {
    let ended = signalled_twice(serving("main-second-forces"), "told");
    assert_eq!(ended.code, Some(128 + 15), "{ended:#?}");
    assert!(
        ended.says(&["! ", "not done: main was running"]),
        "{ended:#?}"
    );
    assert!(
        ended.says(&["! ", "the plan of Server had not begun"]),
        "{ended:#?}"
    );
    assert!(
        ended.says(&["pool closed"]),
        "every step is polled once: {ended:#?}"
    );
}

#[test]
fn the_exit_code_of_a_forced_end_is_that_of_the_forcing_signal() {
    let ended = forced(serving("hang"), Signal::TERM, "draining", Signal::INT);
    assert_eq!(ended.code, Some(128 + 2), "{ended:#?}");
}

#[test]
fn a_step_that_blocks_the_only_thread_cannot_hold_the_forced_end() {
    let ended = forced(
        serving("blocked-step"),
        Signal::TERM,
        "draining",
        Signal::TERM,
    );
    assert_eq!(ended.code, Some(128 + 15), "{ended:#?}");
    assert!(
        ended.says(&[
            "! ",
            "not done: drain was running and blocks the executor, waiting for 3 connections"
        ]),
        "{ended:#?}"
    );
    assert!(
        ended.says(&["the hook ran"]) && ended.says(&["so did the next"]),
        "{ended:#?}"
    );
    assert!(
        ended.says(&["! ", "did not abort the running steps"]),
        "{ended:#?}"
    );
}

#[test]
fn a_main_that_blocks_the_only_thread_cannot_hold_the_forced_end() {
    let ended = forced(serving("blocked-main"), Signal::INT, "", Signal::INT);
    assert_eq!(ended.code, Some(128 + 2), "{ended:#?}");
    assert!(
        ended.says(&["! ", "main"]),
        "it names what holds it: {ended:#?}"
    );
}

#[test]
fn a_blocking_call_that_is_stuck_while_the_runtime_is_dropped_cannot_hold_the_forced_end() {
    let ended = forced(
        serving("stuck-blocking"),
        Signal::TERM,
        "report: true",
        Signal::TERM,
    );
    assert_eq!(ended.code, Some(128 + 15), "{ended:#?}");
    assert!(ended.says(&["! ", "every step has ended"]), "{ended:#?}");
}

#[test]
fn block_on_leaves_a_stuck_blocking_call_behind() {
    let server = serving("block-on");
    server.signal(Signal::TERM);
    let ended = server.end();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(ended.says(&["pool closed"]), "{ended:#?}");
}

#[test]
fn a_step_that_hangs_is_cut_at_its_deadline_and_named() {
    let server = serving("cut");
    server.signal(Signal::TERM);
    let ended = server.end();
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    assert!(
        ended.says(&["drain", "timed out", "waiting for 3 connections"]),
        "{ended:#?}"
    );
    assert!(
        ended.says(&["drain aborted"]) && ended.says(&["pool closed"]),
        "{ended:#?}"
    );
    assert!(
        !ended.says(&["the hook ran"]),
        "nothing was forced: {ended:#?}"
    );
}

#[test]
fn a_step_that_panics_does_not_stop_the_rest() {
    let server = serving("panic");
    server.signal(Signal::TERM);
    let ended = server.end();
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    assert!(
        ended.says(&["drain", "panicked", "no connections"]),
        "{ended:#?}"
    );
    assert!(ended.says(&["pool closed"]), "{ended:#?}");
}

#[test]
fn signals_are_registered_before_main_starts() {
    let ended = stuck("early").end();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(
        ended.says(&["main ends"]) && ended.says(&["SIGTERM"]),
        "{ended:#?}"
    );
}

#[test]
fn sigterm_sigint_sigquit_and_sighup_each_begin_the_shutdown_as_its_reason() {
    for (signal, name) in [
        (Signal::TERM, "SIGTERM"),
        (Signal::INT, "SIGINT"),
        (Signal::QUIT, "SIGQUIT"),
        (Signal::HUP, "SIGHUP"),
    ] {
        let server = serving("exit-code");
        server.signal(signal);
        let ended = server.end();
        assert_eq!(ended.code, Some(7), "the runner's choice: {ended:#?}");
        assert!(
            ended.says(&["main ends"]) && ended.says(&["pool closed"]),
            "{ended:#?}"
        );
        assert!(ended.says(&["finally: ", name]), "{ended:#?}");
    }
}

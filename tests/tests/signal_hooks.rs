//! A hooked signal runs its hook, and does not end the server.

use lifecycle_tests::Process;
use rustix::process::Signal;

fn serving() -> Process {
    start_server("hooks")
}

fn start_server(how: &str) -> Process {
    let mut server = Process::start(env!("CARGO_BIN_EXE_signalled"), &[how]);
    server.wait_for("serving");
    server
}

/// Ends a server by SIGTERM, and asserts that the server exits with 0.
fn end(mut server: Process) {
    server.signal(Signal::TERM);
    server.wait_for("draining");
    server.tell("go");
    let ended = server.end();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(ended.says(&["reason: SIGTERM"]), "{ended:#?}");
}

#[test]
fn a_hooked_sighup_runs_its_hook_each_time_and_does_not_begin_the_shutdown() {
    let mut server = serving();
    for reload in ["reloaded 1", "reloaded 2", "reloaded 3"] {
        server.signal(Signal::HUP);
        server.wait_for(reload);
    }
    end(server);
}

#[test]
fn sigusr1_can_be_hooked() {
    let mut server = serving();
    server.signal(Signal::USR1);
    server.wait_for("dumped");
    end(server);
}

#[test]
fn a_hook_that_panics_is_contained_and_called_again() {
    let mut server = serving();
    for _ in 0..2 {
        server.signal(Signal::USR2);
        server.wait_for("panics");
    }
    server.signal(Signal::USR1);
    server.wait_for("dumped");
    end(server);
}

#[test]
fn a_hooked_signal_is_ignored_during_the_shutdown() {
    let mut server = serving();
    server.signal(Signal::TERM);
    server.wait_for("draining");
    server.no_longer_a_repeat();
    server.signal(Signal::HUP);
    server.signal(Signal::USR1);
    server.tell("go");
    let ended = server.end();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(
        !ended.says(&["reloaded"]) && !ended.says(&["dumped"]),
        "{ended:#?}"
    );
}

#[test]
fn signals_that_are_not_hooked_end_a_server_that_hooks_others() {
    let mut server = serving();
    server.signal(Signal::QUIT);
    server.wait_for("draining");
    // The second signal hurries the shutdown, and the third forces the end.
    for _ in 0..2 {
        server.no_longer_a_repeat();
        server.signal(Signal::TERM);
    }
    let ended = server.end();
    assert_eq!(ended.code, Some(128 + 15), "{ended:#?}");
    assert!(
        ended.says(&["not done: drain was running, waiting for a line"]),
        "{ended:#?}"
    );
}

#[test]
fn a_hooked_signal_does_not_end_a_process_whose_runner_has_ended() {
    let mut server = start_server("hooks-lingering");
    server.signal(Signal::TERM);
    server.wait_for("draining");
    server.tell("go");
    server.wait_for("reason: SIGTERM");
    server.no_longer_a_repeat();
    server.signal(Signal::USR1);
    // The server's signal thread must receive SIGUSR1 before the test sends SIGQUIT.
    server.no_longer_a_repeat();
    server.signal(Signal::QUIT);
    let ended = server.end();
    assert_eq!(ended.code, Some(128 + 3), "{ended:#?}");
}

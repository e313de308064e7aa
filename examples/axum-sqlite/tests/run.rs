//! Runs the example, which ends by itself. The server answers the request in flight, and closes the
//! pool last.

use std::process::Command;

#[test]
fn the_order_in_flight_is_answered_and_saved_before_the_pool_is_closed() {
    let output = Command::new(env!("CARGO_BIN_EXE_lifecycle-axum-sqlite"))
        .output()
        .expect("the example starts");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{}\n{stdout}\n{stderr}",
        output.status
    );

    let mut lines = stdout.lines();
    for expected in [
        "shutdown of Server (requested): clean",
        "  main   done",
        "  tally  done",
        "  pool   done",
        "the customer got: ordered lamp",
        "the pool has 0 connections",
        "the database has: lamp, 1 request",
    ] {
        let found = lines.any(|line| line.starts_with(expected));
        assert!(
            found,
            "no line {expected:?} at its place in:\n{stdout}\n{stderr}"
        );
    }
}

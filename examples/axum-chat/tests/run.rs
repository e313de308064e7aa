//! Runs the example, which ends by itself. The server tells every client of the shutdown, and cuts
//! no client.

use std::process::Command;

#[test]
fn every_client_learns_of_the_shutdown() {
    let output = Command::new(env!("CARGO_BIN_EXE_lifecycle-axum-chat"))
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
        "  http  done",
        "bob heard: is anybody here?",
        "bob heard: good evening, bob",
        "alice was sent away with 1001",
        "the audience was told to come back: true",
    ] {
        let found = lines.any(|line| line.starts_with(expected));
        assert!(
            found,
            "no line {expected:?} at its place in:\n{stdout}\n{stderr}"
        );
    }
}

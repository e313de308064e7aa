//! Runs the example, which ends by itself. The client sees every state of the health, and the end
//! of its stream.

use std::process::Command;

#[test]
fn watchers_of_the_health_learn_of_the_shutdown_before_anything_stops() {
    let output = Command::new(env!("CARGO_BIN_EXE_lifecycle-grpc-health"))
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
        "  lame_duck  done",
        "the client saw: SERVING",
        "the client saw: NOT_SERVING",
        "the client saw: a newcomer answered NOT_SERVING",
        "the client saw: the end of the stream",
    ] {
        let found = lines.any(|line| line.starts_with(expected));
        assert!(
            found,
            "no line {expected:?} at its place in:\n{stdout}\n{stderr}"
        );
    }
}

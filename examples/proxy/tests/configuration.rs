//! Tests of configuration files and arguments: error messages name the place, and older files keep
//! working.

mod support;

use std::process::Command;

use rustix::process::Signal;
use support::{Ended, Proxy};

/// Returns the error message of a proxy that does not start.
fn refusal(config: &str, arguments: &[&str]) -> String {
    let ended = Proxy::spawn(config, arguments).wait();
    assert_eq!(ended.code(), 1, "{}", ended.log.text());
    let line = ended.log.text();
    let line: serde_json::Value = serde_json::from_str(line.lines().last().unwrap()).unwrap();
    line["message"].as_str().unwrap().to_owned()
}

#[test]
fn a_mistake_in_the_file_is_told_with_file_and_line() {
    let message = refusal("max_connections: 5\ntimeouts:\n  idel: 3\n", &[]);
    assert!(message.contains("proxy.yaml"), "{message}");
    assert!(message.contains("line 3"), "{message}");
    assert!(message.contains("proxy.yaml:3:3"), "{message}");
    assert!(message.contains("idel"), "{message}");
    assert!(message.contains("idle"), "{message}");
}

#[test]
fn a_missing_file_is_named() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_proxy"));
    command.args(["-c", "elsewhere.yaml"]);
    let ended = Proxy::launch(command, tempfile::tempdir().unwrap()).wait();
    assert_eq!(ended.code(), 1);
    let text = ended.log.text();
    assert!(
        text.contains("cannot read the configuration elsewhere.yaml"),
        "{text}"
    );
}

#[test]
fn an_address_in_use_is_an_error_with_advice() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let message = refusal("", &["--listen", &address]);
    assert!(message.contains(&address), "{message}");
    assert!(message.contains("--listen"), "{message}");
}

#[test]
fn a_file_with_only_the_older_fields_is_served_with_a_line_at_each_stage() {
    let proxy = Proxy::start(
        "listen_addrs:\n  - 127.0.0.1:0\n\
         timeouts:\n  connect: 5\n  client_hello: 5\n  idle: 30\n\
         metrics:\n  enabled: true\n  address: 127.0.0.1:0\n\
         max_connections: 100\nshutdown_timeout: 5\n",
    );
    let mut client = proxy.connect();
    client.ask("/slow?seconds=1");
    let head = client.response_head();
    proxy.signal(Signal::TERM);
    client.body(&head.head);
    let ended = proxy.wait();
    assert_eq!(ended.code(), 0);
    for stage in [
        "connection limit set",
        "listening",
        "waiting for connections",
        "signal received: draining",
        "waiting for 1 connections",
        "admin server stopped",
        "all complete",
    ] {
        assert_eq!(
            ended.log.all(stage).len(),
            1,
            "{stage}: {}",
            ended.log.text()
        );
    }
}

/// Runs the program with log lines as text, waits until it serves, then stops it.
fn for_people(arguments: &[&str]) -> Ended {
    let arguments = [&["--log", "human"], arguments].concat();
    let proxy = Proxy::spawn("", &arguments);
    proxy.log().expect_text("waiting for connections");
    proxy.signal(Signal::INT);
    let ended = proxy.wait();
    assert_eq!(ended.code(), 0);
    ended
}

/// Returns the number of rows that a text occupies on a terminal of 80 columns.
fn rows(text: &str) -> usize {
    text.lines()
        .map(|line| line.chars().count().div_ceil(80).max(1))
        .sum()
}

#[test]
fn the_address_and_what_to_try_come_first_and_fit_one_screen() {
    let ended = for_people(&[]);
    let (shown, _) = ended.stdout.split_once("shutdown of ProxyServer").unwrap();
    let (first, rest) = shown.split_once('\n').unwrap();
    let address = first.strip_prefix("Listening on ").unwrap();
    assert!(rest.starts_with("Try,"), "{shown}");
    for part in ["Ctrl-C", &format!("  curl {address}/\n")] {
        assert!(rest.contains(part), "{part}: {shown}");
    }
    assert!(!shown.contains("budget"), "{shown}");
    let log = ended.log.text();
    let (logged, _) = log.split_once("waiting for connections").unwrap();
    assert!(rows(shown) + rows(logged) <= 24, "{shown}{logged}");
}

#[test]
fn the_plan_is_shown_on_request_after_the_address() {
    let ended = for_people(&["--plan"]);
    let (shown, _) = ended.stdout.split_once("shutdown of ProxyServer").unwrap();
    let (invitation, plan) = shown.split_once("ProxyServer: at most 30s").unwrap();
    assert!(invitation.starts_with("Listening on "), "{shown}");
    assert!(plan.contains("recorder"), "{shown}");
}

#[test]
fn without_a_terminal_standard_output_is_silent_and_the_log_has_plan_and_report() {
    for arguments in [&["--plan"][..], &["--plan", "--log", "json"]] {
        let proxy = Proxy::spawn("", arguments);
        proxy.log().find("waiting for connections");
        proxy.signal(Signal::TERM);
        let ended = proxy.wait();
        assert_eq!(ended.stdout, "");
        let plan = ended.log.find("shutdown plan");
        assert!(plan["plan"].as_str().unwrap().contains("recorder"));
        let report = ended.log.find("shutdown report");
        assert!(report["report"].as_str().unwrap().contains("connections"));
    }
}

#[test]
fn without_a_request_the_log_has_no_plan() {
    let ended = Proxy::start("");
    ended.signal(Signal::TERM);
    assert!(ended.wait().log.all("shutdown plan").is_empty());
}

#[test]
fn check_reads_the_file_and_serves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_proxy"));
    command.arg("--check");
    let ended = Proxy::launch(command, directory).wait();
    assert_eq!(ended.code(), 0);
    assert!(ended.stdout.contains("valid"), "{}", ended.stdout);
    assert!(ended.log.all("listening").is_empty());
    let message = refusal("nonsense: 1\n", &["--check"]);
    assert!(message.contains("line 1"), "{message}");
}

#[test]
fn a_secret_in_the_file_does_not_reach_the_log() {
    for mistake in [
        "max_connections: 0",
        "timeouts: {idle: hunter2-hunter2}",
        "upstream: http://me:hunter2-hunter2@a",
    ] {
        let config = format!("admin: {{token: hunter2-hunter2-hunter2}}\n{mistake}\n");
        let ended = Proxy::spawn(&config, &["--check"]).wait();
        assert_eq!(ended.code(), 1);
        let text = format!("{}{}", ended.log.text(), ended.stdout);
        assert!(text.contains("line 2"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn values_that_would_fail_later_are_refused_with_their_line() {
    for mistake in [
        "timeouts: {idle: 18446744073709551615}",
        "upstream: http://127.0.0.1:0",
        "upstream: http://127.0.0.1:99999",
        "upstream: http://127.0.0.1:80/#part",
        "listen_addrs: []",
        "tls: {listen_addrs: [\"127.0.0.1:0\"]}",
        "tls: {allow: [{name: a, to: \"a:99999\"}]}",
    ] {
        let message = refusal(&format!("# a comment\n{mistake}\n"), &["--check"]);
        assert!(message.contains("proxy.yaml:2:"), "{mistake}: {message}");
    }
}

#[test]
fn a_configuration_is_a_regular_file_of_a_size() {
    let directory = tempfile::tempdir().unwrap();
    let large = directory.path().join("large.yaml");
    std::fs::write(&large, "#".repeat((16 << 20) + 1)).unwrap();
    for (path, fault) in [
        ("/dev/zero", "not a regular file"),
        (".", "not a regular file"),
        (large.to_str().unwrap(), "larger than 16777216 bytes"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_proxy"));
        command.args(["--check", "-c", path]);
        let ended = Proxy::launch(command, tempfile::tempdir().unwrap()).wait();
        assert_eq!(ended.code(), 1);
        let text = ended.log.text();
        assert!(text.contains(path) && text.contains(fault), "{text}");
    }
}

#[test]
fn a_tape_that_cannot_be_written_is_an_error_at_the_start() {
    let message = refusal("recorder: {path: missing/tape}", &[]);
    assert!(message.contains("missing/tape"), "{message}");
    let message = refusal("recorder: {path: .}", &[]);
    assert!(message.contains("tape"), "{message}");
}

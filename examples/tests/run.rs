//! Runs every example. Each ends by itself, with the exit code and the output that its
//! documentation promises.

mod support;

use std::io::Read;
use std::process::{Command, Stdio};
use std::thread;

use support::{example, wait};

#[test]
fn quickstart_flushes_the_journal_after_its_requests() {
    let out = run("quickstart", &[]);
    out.has_in_order(&[
        "GET /one: done",
        "GET /two: done",
        "shutdown of Server (main ended): clean",
    ]);
    out.has_steps(&["main", "token", "requests", "journal"]);
}

#[test]
fn nested_parts_have_their_own_rows_in_the_plan_and_the_report() {
    let out = run("nested_parts", &[]);
    out.has_in_order(&[
        "Server: at most 25s",
        "ingress",
        "12s",
        "storage",
        "4s",
        "shutdown of Server (main ended): clean",
    ]);
    out.has_steps(&[
        "ingress",
        "accepting",
        "connections",
        "housekeeping",
        "storage",
        "log",
        "by_name",
        "by_date",
    ]);
}

#[test]
fn configured_timeout_is_in_the_plan_of_the_value() {
    let out = run("configured_timeout", &[]);
    out.has_in_order(&[
        "for every configuration, Server: at most 65s",
        "60s",
        "as configured, Server: at most 65s",
        "8s",
        "shutdown of Server (main ended): clean",
    ]);
    out.has_steps(&["token", "requests", "journal"]);
}

#[test]
fn configured_timeout_is_clipped_to_its_at_most() {
    let out = run("configured_timeout", &["3600"]);
    out.has_in_order(&["as configured", "requests", "60s", "clean"]);
    assert!(!out.stdout.contains("3600s"), "{}", out.stdout);
}

#[test]
fn custom_component_reports_what_it_waits_for_and_ends_its_stragglers() {
    let out = run("custom_component", &[]);
    out.has_in_order(&[
        "workers: waiting for",
        "stubborn",
        "sent: welcome",
        "sent: the last issue",
        "shutdown of Server (main ended): clean",
        "stubborn: task",
        "not sent, the outbox is closed: are you there?",
        "dropped without a shutdown: its worker was aborted",
    ]);
}

#[test]
fn batch_consumer_neither_loses_a_message_nor_records_one_twice() {
    let out = run("batch_consumer", &[]);
    out.has_in_order(&[
        "committed [5, 6, 7, 8, 9]",
        "told to stop at message 7: shutdown of Consumer (requested): clean",
        "stuck at message 12: shutdown of Consumer (requested): not clean",
        "main          timed out",
        "committed [10, 11, 12, 13, 14]",
        "until the topic ended: shutdown of Consumer (main ended): clean",
        "20 messages: 20 committed, 5 of them after they were delivered again",
    ]);
}

#[test]
fn stuck_exits_with_1_on_time_and_names_the_stuck_the_blocking_and_the_panicked_task() {
    let out = run_to(1, "stuck", &[]);
    out.has_in_order(&[
        "journal: served until the end",
        "shutdown of Server (main ended): not clean",
        "tasks",
        "parser: panicked: byte 7 is no digit",
        "stuck-upstream",
        "imports",
        "csv-import",
    ]);
    out.has_steps(&["journal"]);
}

/// The output of an example.
struct Output {
    stdout: String,
}

impl Output {
    fn has_in_order(&self, expected: &[&str]) {
        let mut rest = &*self.stdout;
        for text in expected {
            let found = rest.find(text);
            let at =
                found.unwrap_or_else(|| panic!("no {text:?} at its place in:\n{}", self.stdout));
            rest = &rest[at + text.len()..];
        }
    }

    /// Asserts that the last report in the output has the steps `names` in this order, and that
    /// each is done.
    fn has_steps(&self, names: &[&str]) {
        let report = self
            .stdout
            .rfind("shutdown of ")
            .map_or("", |at| &self.stdout[at..]);
        let mut rows = report
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        for name in names {
            let found = rows.any(|row| row.first() == Some(name) && row.get(1) == Some(&"done"));
            assert!(found, "no row {name:?}, done, at its place in:\n{report}");
        }
    }
}

/// Runs an example, and asserts that it exits with 0.
fn run(name: &str, args: &[&str]) -> Output {
    run_to(0, name, args)
}

/// Runs an example, and asserts its exit code.
fn run_to(code: i32, name: &str, args: &[&str]) -> Output {
    let mut child = Command::new(example(name))
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the example starts");
    // The threads read while the example runs, since a full pipe would block the example.
    let stdout = read(child.stdout.take().expect("stdout is piped"));
    let stderr = read(child.stderr.take().expect("stderr is piped"));
    let status = wait(&mut child, name);
    let stdout = stdout.join().expect("reading does not panic");
    let stderr = stderr.join().expect("reading does not panic");
    assert!(
        status.code() == Some(code),
        "{name} ended with {status}\n{stdout}\n{stderr}"
    );
    Output { stdout }
}

fn read(mut from: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut text = String::new();
        from.read_to_string(&mut text)
            .expect("an example prints UTF-8");
        text
    })
}

//! A child process and its group get SIGTERM, and SIGKILL if they do not end.
//!
//! The tests see when a process and all its children have ended, because the pipe to which all of them write then ends.
#![cfg(unix)]

use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::Duration;

use lifecycle_runtime::{Component, Context, GracefulShutdown, Reason, ShutdownState};
use lifecycle_tests::context;
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, waitpid};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// Starts a shell that runs `script`, waits for the line `ready`, and returns the process and its further lines.
async fn shell(script: &str, leads_a_group: bool) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(script)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // A process that outlives a failed test must not hold the test's stderr open.
        .stderr(Stdio::null());
    command.kill_on_drop(true);
    if leads_a_group {
        command.process_group(0);
    }
    let mut child = command.spawn().expect("there is a shell");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("ready"));
    (child, lines)
}

// The innermost process of each script prints `ready`, so no signal can come before it runs.

/// A shell that prints `told` at SIGTERM and ends.
const OBEDIENT: &str =
    "trap 'echo told; kill $!; exit 0' TERM; sh -c 'echo ready; exec sleep 1000' & wait";
/// A shell that ignores SIGTERM. Its child inherits that, and ignores SIGTERM too.
const STUBBORN: &str = "trap '' TERM; sh -c 'echo ready; exec sleep 1000' & wait";
/// A shell that does not end at SIGTERM, but when its child has ended.
const GROUP: &str = "trap 'wait' TERM; sh -c 'echo ready; exec sleep 1000' & wait";
/// A shell that ends at the second SIGTERM.
const SLOW: &str = "n=0; trap 'n=$((n+1)); echo told $n' TERM; sh -c 'echo ready; exec sleep 1000' & \
                    while [ $n -lt 2 ]; do wait; done; kill $!";
/// A process that ignores SIGTERM and has no child.
const ALONE: &str = "trap '' TERM; echo ready; exec sleep 1000";

/// A leader that ends at SIGTERM, with a child that ignores SIGTERM.
const ORPHANING: &str =
    "trap 'exit 0' TERM; sh -c 'trap \"\" TERM; echo ready; exec sleep 1000' & wait";
/// A leader that ends at SIGTERM, with a child that ends a moment after its leader.
const ORPHANING_SLOW: &str = "trap 'exit 0' TERM; \
     sh -c 'trap \"sleep 0.3; kill \\$!; exit 0\" TERM; sleep 1000 & echo ready; wait; wait' & wait";
/// A leader that ends by itself at once, with a child that lives on.
const ORPHANED: &str = "sh -c 'echo ready; exec sleep 1000' & exit 0";

#[derive(GracefulShutdown)]
#[shutdown(timeout = "10s")]
struct Owner {
    #[shutdown]
    child: Child,
    #[shutdown(state)]
    state: ShutdownState,
}

/// Returns a context with so much time that no child should have to be killed.
fn patient() -> Context {
    Context::new(Reason::Requested, Duration::from_secs(60))
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id().expect("it is not reaped")).unwrap()).unwrap()
}

/// Asserts that the process has ended and has been reaped.
fn assert_reaped(pid: Pid) {
    assert_eq!(
        waitpid(Some(pid), WaitOptions::NOHANG).map(drop),
        Err(Errno::CHILD)
    );
}

async fn assert_all_gone(mut lines: Lines<BufReader<ChildStdout>>) {
    while let Some(line) = lines.next_line().await.unwrap() {
        assert_eq!(line, "told");
    }
}

#[tokio::test]
async fn a_child_gets_sigterm_and_is_reaped() {
    let (mut child, mut lines) = shell(OBEDIENT, false).await;
    let pid = pid(&child);
    child.cleanup(&patient()).await.unwrap();
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("told"));
    assert_eq!(child.id(), None);
    assert_reaped(pid);
    child.cleanup(&patient()).await.unwrap();
}

#[tokio::test]
async fn a_child_that_has_ended_needs_no_cleanup() {
    let (mut child, lines) = shell("echo ready", false).await;
    assert_all_gone(lines).await;
    child.wait().await.unwrap();
    child.cleanup(&patient()).await.unwrap();
    child.abort();
    child.release();
}

#[tokio::test]
async fn a_child_that_ended_unseen_is_reaped() {
    let (mut child, lines) = shell("echo ready", false).await;
    let pid = pid(&child);
    assert_all_gone(lines).await;
    child.cleanup(&patient()).await.unwrap();
    assert_reaped(pid);
}

#[tokio::test]
async fn the_group_that_a_child_leads_gets_sigterm_too() {
    let (mut child, lines) = shell(GROUP, true).await;
    child.cleanup(&patient()).await.unwrap();
    assert_all_gone(lines).await;
}

// The clock is paused and advances as soon as all tasks wait, so the cleanup reaches its soft deadline without a real
// wait.
#[tokio::test(start_paused = true)]
async fn a_child_that_ignores_sigterm_is_killed_with_its_group_and_the_error_says_so() {
    let (mut child, lines) = shell(STUBBORN, true).await;
    let pid = pid(&child);
    let error = child.cleanup(&context()).await.unwrap_err();
    let begins = format!(
        "process group {pid} did not end after SIGTERM and had to be killed; what still ran: "
    );
    assert!(error.to_string().starts_with(&begins), "{error}");
    assert_eq!(child.wait().await.unwrap().signal(), Some(9));
    assert_reaped(pid);
    assert_all_gone(lines).await;
    child.cleanup(&context()).await.unwrap();
}

/// Waits until the leader has ended, without reaping it.
async fn leader_ended(pid: Pid) {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    tokio::task::spawn_blocking(move || waitid(WaitId::Pid(pid), options))
        .await
        .unwrap()
        .unwrap();
}

// The clock is paused and advances as soon as all tasks wait, so the cleanup reaches its soft deadline without a real
// wait.
#[tokio::test(start_paused = true)]
async fn members_of_a_group_whose_leader_has_ended_are_killed_and_named() {
    let (mut child, lines) = shell(ORPHANING, true).await;
    let pid = pid(&child);
    let go_on = hold_the_clock();
    let cleanup = async {
        let cx = context();
        child.cleanup(&cx).await.unwrap_err().to_string()
    };
    let error = async {
        leader_ended(pid).await;
        drop(go_on);
    };
    let (error, ()) = tokio::join!(cleanup, error);
    let begins = format!(
        "process group {pid} outlived its leader and SIGTERM and had to be killed; what still ran: "
    );
    assert!(error.starts_with(&begins), "{error}");
    assert_all_gone(lines).await;
    assert_reaped(pid);
}

/// Runs a blocking task until the returned sender is dropped. While it runs, the paused clock does not advance by
/// itself.
fn hold_the_clock() -> std::sync::mpsc::Sender<()> {
    let (go_on, stop) = std::sync::mpsc::channel::<()>();
    tokio::task::spawn_blocking(move || stop.recv());
    go_on
}

#[tokio::test]
async fn members_of_a_group_are_awaited_after_their_leader() {
    let (mut child, lines) = shell(ORPHANING_SLOW, true).await;
    let pid = pid(&child);
    child.cleanup(&patient()).await.unwrap();
    assert_reaped(pid);
    assert_all_gone(lines).await;
    child.cleanup(&patient()).await.unwrap();
}

#[tokio::test]
async fn a_group_whose_leader_had_ended_before_gets_sigterm() {
    let (mut child, lines) = shell(ORPHANED, true).await;
    let pid = pid(&child);
    leader_ended(pid).await;
    child.cleanup(&patient()).await.unwrap();
    assert_all_gone(lines).await;
    assert_reaped(pid);
}

#[tokio::test]
async fn a_group_whose_leader_had_ended_is_killed_by_abort_and_by_an_unawaited_drop() {
    let (mut child, lines) = shell(ORPHANED, true).await;
    leader_ended(pid(&child)).await;
    child.abort();
    assert_all_gone(lines).await;

    let (child, lines) = shell(ORPHANED, true).await;
    leader_ended(pid(&child)).await;
    drop(Owner {
        child,
        state: ShutdownState::new(),
    });
    assert_all_gone(lines).await;
}

#[tokio::test]
async fn groups_in_a_list_are_cleaned_each_as_a_whole() {
    #[derive(GracefulShutdown)]
    struct Many {
        #[shutdown]
        children: Vec<Child>,
        #[shutdown]
        one: Option<Child>,
        #[shutdown(state)]
        state: ShutdownState,
    }
    let (first, first_lines) = shell(ORPHANED, true).await;
    let (second, second_lines) = shell(GROUP, true).await;
    let (third, third_lines) = shell(ORPHANING_SLOW, true).await;
    let mut many = Many {
        children: vec![first, second],
        one: Some(third),
        state: ShutdownState::new(),
    };
    let report = many.shutdown().await;
    assert!(report.is_clean(), "{report}");
    for lines in [first_lines, second_lines, third_lines] {
        assert_all_gone(lines).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_whose_child_had_to_be_killed_is_failed_and_not_timed_out() {
    let (child, _lines) = shell(ALONE, false).await;
    let pid = pid(&child);
    // The clock stands still, so that the killed child has the real time that it needs to end.
    let go_on = hold_the_clock();
    let mut owner = Owner {
        child,
        state: ShutdownState::new(),
    };
    let advance_to_the_soft_deadline = async {
        tokio::task::yield_now().await;
        tokio::time::advance(Duration::from_secs(9)).await;
    };
    let (report, ()) = tokio::join!(owner.shutdown(), advance_to_the_soft_deadline);
    drop(go_on);
    let outcome = report.step("child").unwrap().outcome().to_string();
    assert_eq!(
        outcome,
        format!("failed: process {pid} did not end after SIGTERM and had to be killed")
    );
    assert_reaped(pid);
}

#[tokio::test]
async fn aborting_and_releasing_a_child_kill_its_group() {
    for force in [Component::abort, Component::release] {
        let (mut child, lines) = shell(STUBBORN, true).await;
        force(&mut child);
        assert_eq!(child.wait().await.unwrap().signal(), Some(9));
        assert_all_gone(lines).await;
    }
}

#[tokio::test]
async fn aborting_and_releasing_a_child_without_a_group_kill_it() {
    for force in [Component::abort, Component::release] {
        let (mut child, lines) = shell(ALONE, false).await;
        force(&mut child);
        assert_eq!(child.wait().await.unwrap().signal(), Some(9));
        assert_all_gone(lines).await;
    }
}

#[tokio::test]
async fn an_interrupted_cleanup_of_a_child_can_be_resumed() {
    let (mut child, mut lines) = shell(SLOW, false).await;
    let pid = pid(&child);
    let cx = patient();
    tokio::select! {
        ended = child.cleanup(&cx) => panic!("it ended at the first SIGTERM: {ended:?}"),
        line = lines.next_line() => assert_eq!(line.unwrap().as_deref(), Some("told 1")),
    }
    child.cleanup(&patient()).await.unwrap();
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("told 2"));
    assert_reaped(pid);
}

#[test]
fn a_child_is_cleaned_on_a_runtime_without_time() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (mut child, _lines) = shell(OBEDIENT, false).await;
        child.cleanup(&patient()).await.unwrap();
    });
}

#[test]
fn a_child_is_released_after_its_runtime_is_gone() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (mut child, lines) = runtime.block_on(shell(STUBBORN, true));
    let stdout = lines.into_inner().into_inner().into_owned_fd().unwrap();
    drop(runtime);
    child.release();
    // The read of the pipe ends when every process of the group has ended.
    assert_eq!(
        std::io::read_to_string(std::fs::File::from(stdout)).unwrap(),
        ""
    );
}

//! Tests that the public API cannot reach: the hook of a forced end, and systems that do not show a group.

use std::future::Future;
use std::io::{BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Poll, Waker};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::advance;

use super::group::Group;
use super::unreaped::{Target, Unreaped};
use super::view::check_unreaped;
use crate::{BoxError, Context, Reason};

/// Starts a process that leads a group and ends at SIGTERM.
fn leader() -> (Child, Pid) {
    let child = Command::new("sleep")
        .arg("1000")
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .expect("there is sleep");
    let id = child.id().and_then(|id| i32::try_from(id).ok());
    let pid = id.and_then(Pid::from_raw).expect("it is not reaped");
    (child, pid)
}

/// A process of a group that ignores SIGTERM. Dropping this value kills the process.
struct Member(std::process::Child);

impl Member {
    fn of(group: Pid) -> Self {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "trap '' TERM; echo ready; exec sleep 1000"])
            .process_group(group.as_raw_pid())
            .stdout(Stdio::piped())
            .spawn()
            .expect("there is a shell");
        let stdout = child.stdout.take().expect("stdout is a pipe");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("text");
        assert_eq!(line, "ready\n");
        Self(child)
    }

    /// Ends the process with SIGUSR1. The signal in the exit status then shows that no SIGKILL came before, as the
    /// first fatal signal ends a process.
    fn end(&mut self) {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("numbers are small"), Signal::USR1).expect("it is not reaped");
        let ended = self.0.wait().expect("it is a child");
        assert_eq!(ended.signal(), Some(Signal::USR1.as_raw()));
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // The results are ignored: both calls fail only if the process has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn the_hook_of_a_forced_end_kills_the_group_of_a_child_that_is_not_reaped() {
    let (mut child, pid) = leader();
    let mut member = Member::of(pid);
    let unreaped = Unreaped::new(Target::of(&child).unwrap().unwrap());
    unreaped.kill_hook()();
    unreaped.wait(&mut child).await.unwrap();
    assert_eq!(child.wait().await.unwrap().signal(), Some(9));
    assert_eq!(member.0.wait().unwrap().signal(), Some(9));
}

#[tokio::test]
async fn the_hook_of_a_forced_end_does_nothing_once_the_child_is_reaped() {
    for reap_at_once in [true, false] {
        let (mut child, pid) = leader();
        let mut member = Member::of(pid);
        let unreaped = Unreaped::new(Target::of(&child).unwrap().unwrap());
        let hook = unreaped.kill_hook();
        unreaped.terminate().unwrap();
        if reap_at_once {
            while !unreaped.reap(&mut child).unwrap() {
                tokio::task::yield_now().await;
            }
        } else {
            unreaped.wait(&mut child).await.unwrap();
        }
        hook();
        unreaped.kill();
        unreaped.terminate().unwrap();
        member.end();
    }
}

#[tokio::test]
async fn the_hook_of_a_forced_end_does_nothing_once_the_cleanup_was_dropped() {
    let (mut child, pid) = leader();
    let mut member = Member::of(pid);
    let unreaped = Unreaped::new(Target::of(&child).unwrap().unwrap());
    let hook = unreaped.kill_hook();
    drop(unreaped);
    hook();
    member.end();
    kill_process(pid, Signal::USR1).unwrap();
    let ended = child.wait().await.unwrap();
    assert_eq!(ended.signal(), Some(Signal::USR1.as_raw()));
}

/// Polls `end`, the end of a group that the system does not show, until the group's leader is reaped.
async fn reap_leader(end: &mut Pin<&mut impl Future<Output = Result<(), BoxError>>>, leader: Pid) {
    while check_unreaped(leader).is_ok() {
        assert!(poll(end).is_pending());
        // The sleep is in real time, since the leader ends in real time, which a paused clock does not follow.
        std::thread::sleep(Duration::from_millis(1));
        advance(Duration::from_millis(1)).await;
    }
}

fn poll<F: Future>(future: &mut Pin<&mut F>) -> Poll<F::Output> {
    future
        .as_mut()
        .poll(&mut std::task::Context::from_waker(Waker::noop()))
}

/// Creates a context with a hundred seconds, of which one second lies between the soft and the hard deadline.
fn context() -> Context {
    Context::new(Reason::Requested, Duration::from_secs(100))
}

#[tokio::test(start_paused = true)]
async fn a_group_that_cannot_be_seen_is_waited_for_after_its_leader() {
    let (mut child, pid) = leader();
    let mut member = Member::of(pid);
    let unreaped = Unreaped::new(Target::Group(pid));
    let cx = context();
    let mut end = std::pin::pin!(Group::hidden(pid, &mut child, &unreaped).end(&cx));
    reap_leader(&mut end, pid).await;
    for _ in 0..5 {
        assert!(poll(&mut end).is_pending());
        advance(Duration::from_secs(1)).await;
    }
    member.end();
    assert!(matches!(poll(&mut end), Poll::Ready(Ok(()))));
}

#[tokio::test(start_paused = true)]
async fn a_group_that_cannot_be_seen_and_outlives_its_leader_is_an_error_and_not_killed() {
    let (mut child, pid) = leader();
    let mut member = Member::of(pid);
    let unreaped = Unreaped::new(Target::Group(pid));
    let cx = context();
    let mut end = std::pin::pin!(Group::hidden(pid, &mut child, &unreaped).end(&cx));
    reap_leader(&mut end, pid).await;
    advance(Duration::from_secs(99)).await;
    let Poll::Ready(Err(error)) = poll(&mut end) else {
        panic!("it waits no longer than its time, and says so");
    };
    let text = format!("process group {pid} may have outlived its leader and SIGTERM");
    assert!(error.to_string().starts_with(&text), "{error}");
    member.end();
}

//! A process group is cleaned as a whole: processes that outlive their leader get SIGTERM, are awaited, and are killed.
//!
//! Time is paused and advances only where a test says so. Before it goes on, a test waits until the real processes have
//! done what it needs.
#![cfg(target_os = "linux")]

use std::future::Future;
use std::task::Poll;

use lifecycle_runtime::{BoxError, Component};
use lifecycle_tests::{Family, context, eventually, ms, secs};
use rustix::process::{Pid, Signal, WaitOptions, waitpid};
use tokio::process::{Child, Command};
use tokio::time::advance;
use tokio_test::task::{Spawn, spawn};
use tokio_test::{assert_pending, assert_ready};

/// A leader that ends at once.
const GONE: &str = "sh rest & exit";
/// A leader that ends at SIGTERM.
const OBEDIENT: &str = "trap exit TERM; sh rest & wait";
/// A leader that does not end at SIGTERM.
const STAYS: &str = "trap '' TERM; sh rest & exec sleep 1000";
/// A leader that starts the script `rest` when it gets SIGTERM, and ends when `rest` has written its file.
const LATE: &str = "trap 'sh rest & until [ -s rest.pid ]; do :; done; exit' TERM; echo $$ > leader.pid; \
                    (trap '' TERM; exec sleep 1000) & wait";

/// A leader that does not end at SIGTERM, but at the end of its input.
const READS: &str = "sh rest & trap '' TERM; echo $$ > leader.pid; wait; exec cat";

/// A process that ends at SIGUSR1, and writes down every SIGTERM and SIGUSR2.
const PATIENT: &str = "trap '' TERM; sleep 1000 & trap 'echo $$ >> told' TERM; trap 'echo $$ >> seen' USR2; \
                       trap 'kill -9 $!; exit' USR1; echo $$ > rest.pid; while :; do wait $!; done";
/// A process that ignores SIGTERM.
const STUBBORN: &str = "trap '' TERM; echo $$ > rest.pid; exec sleep 1000";
/// A process that ends at SIGTERM.
const MEEK: &str = "echo $$ > rest.pid; exec sleep 1000";

/// Advances the clock by more than the longest time that the cleanup waits between two checks of the group.
async fn look_again() {
    advance(ms(100)).await;
}

/// Advances the clock to the soft deadline, and polls `cleanup` until the killed processes have ended.
async fn cut<F: Future<Output = Result<(), BoxError>>>(
    cleanup: &mut Spawn<F>,
) -> Result<(), BoxError> {
    advance(secs(9)).await;
    loop {
        match cleanup.poll() {
            Poll::Ready(ended) => return ended,
            Poll::Pending => look_again().await,
        }
    }
}

/// Polls `cleanup`, waits until the group has ended, and asserts that `cleanup` is then ready.
async fn ends<F: Future<Output = Result<(), BoxError>>>(
    cleanup: &mut Spawn<F>,
    family: &Family,
) -> Result<(), BoxError> {
    if let Poll::Ready(ended) = cleanup.poll() {
        return ended;
    }
    eventually(|| family.living().is_empty());
    look_again().await;
    assert_ready!(cleanup.poll())
}

#[tokio::test(start_paused = true)]
async fn a_survivor_of_its_leader_and_sigterm_is_killed_at_the_soft_deadline_and_the_error_says_so()
{
    let (mut child, family) = Family::start(OBEDIENT, STUBBORN);
    let rest = family.wrote("rest.pid")[0];
    let cx = context();
    let mut cleanup = spawn(child.cleanup(&cx));
    assert_pending!(cleanup.poll());
    family.leader_ended();
    advance(secs(8)).await;
    assert_pending!(cleanup.poll());
    assert!(family.lives(rest), "it is killed no sooner");
    let error = cut(&mut cleanup).await.unwrap_err();
    assert!(!family.lives(rest));
    assert_eq!(
        error.to_string(),
        format!(
            "process group {} outlived its leader and SIGTERM and had to be killed; what still ran: process {rest}",
            family.leader
        )
    );
    drop(cleanup);
    assert!(family.leader_is_reaped());
    child.cleanup(&context()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_survivor_of_its_leader_is_awaited_and_no_longer_than_it_lives() {
    let (mut child, family) = Family::start(OBEDIENT, PATIENT);
    let rest = family.wrote("rest.pid")[0];
    let cx = context();
    let mut cleanup = spawn(child.cleanup(&cx));
    assert_pending!(cleanup.poll());
    family.leader_ended();
    family.wrote("told");
    for round in 1..=40 {
        look_again().await;
        assert_pending!(cleanup.poll());
        // SIGUSR2 makes the process write to the file `seen`. By then it has handled every earlier signal too, so a
        // SIGTERM would show.
        family.signal(rest, Signal::USR2);
        eventually(|| family.read("seen").len() == round);
    }
    family.signal(rest, Signal::USR1);
    ends(&mut cleanup, &family).await.unwrap();
    drop(cleanup);
    assert_eq!(
        family.read("told").len(),
        1,
        "a second SIGTERM could mean a hurry"
    );
    assert!(family.leader_is_reaped());
    child.cleanup(&context()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_group_of_a_leader_that_ended_before_and_is_not_reaped_gets_sigterm() {
    let (mut child, family) = Family::start(GONE, PATIENT);
    let rest = family.wrote("rest.pid")[0];
    family.leader_ended();
    let cx = context();
    let mut cleanup = spawn(child.cleanup(&cx));
    assert_pending!(cleanup.poll());
    family.wrote("told");
    look_again().await;
    assert_pending!(cleanup.poll());
    family.signal(rest, Signal::USR1);
    ends(&mut cleanup, &family).await.unwrap();
    assert_eq!(family.read("told").len(), 1);
    assert!(family.leader_is_reaped());
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_ended_before_with_all_of_its_group_is_only_reaped() {
    let (mut child, family) = Family::start("exit", MEEK);
    family.leader_ended();
    let cx = context();
    assert_ready!(spawn(child.cleanup(&cx)).poll()).unwrap();
    assert!(family.leader_is_reaped());
}

#[tokio::test(start_paused = true)]
async fn a_process_younger_than_the_first_sigterm_gets_its_own_when_its_leader_has_ended() {
    let (mut child, family) = Family::start(LATE, PATIENT);
    family.wrote("leader.pid");
    let cx = context();
    let mut cleanup = spawn(child.cleanup(&cx));
    assert_pending!(cleanup.poll());
    let rest = family.wrote("rest.pid")[0];
    family.leader_ended();
    look_again().await;
    assert_pending!(cleanup.poll());
    family.wrote("told");
    for round in 1..=5 {
        look_again().await;
        assert_pending!(cleanup.poll());
        // SIGUSR2 makes the process write to the file `seen`. By then it has handled every earlier signal too, so a
        // SIGTERM would show.
        family.signal(rest, Signal::USR2);
        eventually(|| family.read("seen").len() == round);
    }
    let error = cut(&mut cleanup).await.unwrap_err().to_string();
    assert!(!family.lives(rest));
    assert!(error.contains("outlived its leader"), "{error}");
    assert_eq!(family.read("told").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_group_whose_leader_stays_is_killed_with_it_and_the_error_names_them() {
    let (mut child, family) = Family::start(STAYS, STUBBORN);
    let rest = family.wrote("rest.pid")[0];
    let cx = context();
    let mut cleanup = spawn(child.cleanup(&cx));
    assert_pending!(cleanup.poll());
    let error = cut(&mut cleanup).await.unwrap_err();
    assert_eq!(family.living(), []);
    let leader = family.leader;
    let mut left = [leader, rest];
    left.sort_by_key(|pid| pid.as_raw_pid());
    assert_eq!(
        error.to_string(),
        format!(
            "process group {leader} did not end after SIGTERM and had to be killed; what still ran: processes {}, {}",
            left[0], left[1]
        )
    );
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_waits_for_the_end_of_its_input_gets_it() {
    let (mut child, family) = Family::start(READS, MEEK);
    family.wrote("rest.pid");
    family.wrote("leader.pid");
    let cx = context();
    let mut cleanup = spawn(child.cleanup(&cx));
    ends(&mut cleanup, &family).await.unwrap();
    drop(cleanup);
    assert!(family.leader_is_reaped());
}

#[tokio::test(start_paused = true)]
async fn a_cleanup_interrupted_after_the_leader_ended_can_be_resumed() {
    let (mut child, family) = Family::start(OBEDIENT, PATIENT);
    let rest = family.wrote("rest.pid")[0];
    {
        let cx = context();
        let mut cleanup = spawn(child.cleanup(&cx));
        assert_pending!(cleanup.poll());
        family.leader_ended();
        look_again().await;
        assert_pending!(cleanup.poll());
    }
    let cx = context();
    let mut cleanup = spawn(child.cleanup(&cx));
    assert_pending!(cleanup.poll());
    family.signal(rest, Signal::USR1);
    ends(&mut cleanup, &family).await.unwrap();
    assert!(family.leader_is_reaped());
}

#[tokio::test(start_paused = true)]
async fn a_cleanup_that_is_cut_after_the_leader_ended_leaves_the_group_to_abort_and_release() {
    for force in [Component::abort, Component::release] {
        let (mut child, family) = Family::start(OBEDIENT, STUBBORN);
        let rest = family.wrote("rest.pid")[0];
        {
            let cx = context();
            let mut cleanup = spawn(child.cleanup(&cx));
            assert_pending!(cleanup.poll());
            family.leader_ended();
            look_again().await;
            assert_pending!(cleanup.poll());
        }
        force(&mut child);
        eventually(|| !family.lives(rest));
        let cx = context();
        assert_ready!(spawn(child.cleanup(&cx)).poll()).unwrap();
    }
}

#[tokio::test]
async fn abort_and_release_kill_the_survivors_of_a_leader_that_is_not_reaped() {
    for force in [Component::abort, Component::release] {
        let (mut child, family) = Family::start(GONE, STUBBORN);
        let rest = family.wrote("rest.pid")[0];
        family.leader_ended();
        force(&mut child);
        eventually(|| !family.lives(rest));
        child.cleanup(&context()).await.unwrap();
        assert!(family.leader_is_reaped());
    }
}

/// Asserts that the process `rest` of a family got neither SIGTERM nor SIGKILL. It must run the script `PATIENT`.
fn assert_no_signal(family: &Family, rest: Pid) {
    family.signal(rest, Signal::USR2);
    family.wrote("seen");
    assert_eq!(family.read("told"), []);
}

// Once other code has reaped a child, its pid may belong to another process, so the cleanup must not signal it.
#[tokio::test(start_paused = true)]
async fn a_child_that_other_code_reaped_is_an_error_and_gets_no_signal() {
    let (mut child, family) = Family::start(GONE, PATIENT);
    let rest = family.wrote("rest.pid")[0];
    family.leader_ended();
    waitpid(Some(family.leader), WaitOptions::empty()).unwrap();
    let error = child.cleanup(&context()).await.unwrap_err().to_string();
    let text = format!("process {} cannot be waited for", family.leader);
    assert!(error.starts_with(&text), "{error}");
    child.abort();
    child.release();
    assert_no_signal(&family, rest);
}

#[tokio::test(start_paused = true)]
async fn a_child_that_was_awaited_before_its_cleanup_is_done_and_its_group_gets_no_signal() {
    let (mut child, family) = Family::start(GONE, PATIENT);
    let rest = family.wrote("rest.pid")[0];
    child.wait().await.unwrap();
    child.cleanup(&context()).await.unwrap();
    child.abort();
    child.release();
    assert_no_signal(&family, rest);
}

/// Starts a process that ends at SIGTERM, in a group that another child leads.
fn joined(family: &Family) -> Child {
    Command::new("sleep")
        .arg("1000")
        .process_group(family.leader.as_raw_pid())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_member_that_has_ended_and_is_not_reaped_does_not_hold_up_its_group() {
    let (mut child, family) = Family::start(OBEDIENT, MEEK);
    family.wrote("rest.pid");
    let mut member = joined(&family);
    let cx = context();
    let mut cleanup = spawn(child.cleanup(&cx));
    ends(&mut cleanup, &family).await.unwrap();
    assert!(member.id().is_some(), "it is not reaped");
    member.cleanup(&context()).await.unwrap();
}

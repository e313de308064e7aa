//! Owners clean process groups whose leaders are in lists or options of children.
//!
//! Time is paused and advances only where a test says so, as in `foreign_process_group`.
#![cfg(target_os = "linux")]

use std::task::Poll;

use lifecycle_runtime::{GracefulShutdown, Report, Shutdown, ShutdownState};
use lifecycle_tests::{Family, Logs, eventually, ms, secs};
use tokio::process::Child;
use tokio::time::advance;
use tokio_test::assert_pending;
use tokio_test::task::{Spawn, spawn};

/// A leader that ends at once.
const GONE: &str = "sh rest & exit";
/// A leader that ends at SIGTERM.
const OBEDIENT: &str = "trap exit TERM; sh rest & wait";
/// A process that ignores SIGTERM.
const STUBBORN: &str = "trap '' TERM; echo $$ > rest.pid; exec sleep 1000";
/// A process that ends at SIGTERM.
const MEEK: &str = "echo $$ > rest.pid; exec sleep 1000";

#[derive(GracefulShutdown)]
#[shutdown(timeout = "10s")]
struct Owner {
    #[shutdown(priority = 0)]
    workers: Vec<Child>,
    #[shutdown(priority = 0)]
    helper: Option<Child>,
    #[shutdown(state)]
    state: ShutdownState,
}

/// Starts a family for each pair of scripts, and waits until the shell `rest` of each has written its file.
fn start<const N: usize>(scripts: [(&str, &str); N]) -> (Vec<Child>, [Family; N]) {
    let (children, families): (Vec<Child>, Vec<Family>) = scripts
        .into_iter()
        .map(|(leader, rest)| Family::start(leader, rest))
        .unzip();
    for (family, (leader, _)) in families.iter().zip(scripts) {
        family.wrote("rest.pid");
        if leader == GONE {
            family.leader_ended();
        }
    }
    (children, families.try_into().expect("there are N"))
}

fn owner(workers: Vec<Child>, helper: Option<Child>) -> Owner {
    Owner {
        workers,
        helper,
        state: ShutdownState::new(),
    }
}

/// Polls the shutdown until it returns its report. Between two polls it advances the clock, and waits until the
/// processes of `gone` have ended.
async fn report(shutdown: &mut Spawn<Shutdown<'_, Owner>>, gone: &[&Family]) -> Report {
    for _ in 0..10 {
        if let Poll::Ready(report) = shutdown.poll() {
            return report;
        }
        eventually(|| gone.iter().all(|family| family.living().is_empty()));
        advance(ms(50)).await;
    }
    panic!("all groups have ended, but the shutdown has not");
}

fn assert_all_gone(families: &[Family]) {
    for family in families {
        assert_eq!(family.living(), []);
        assert!(family.leader_is_reaped());
    }
}

#[tokio::test(start_paused = true)]
async fn groups_in_a_vec_and_an_option_are_cleaned_together_with_a_row_each() {
    let (mut workers, families) = start([(OBEDIENT, MEEK), (GONE, MEEK), (OBEDIENT, MEEK)]);
    let helper = workers.pop();
    let mut owner = owner(workers, helper);
    let report = report(
        &mut spawn(owner.shutdown()),
        &families.iter().collect::<Vec<_>>(),
    )
    .await;
    assert!(report.is_clean(), "{report}");
    let rows = report.step("workers").unwrap().steps();
    let names: Vec<_> = rows.iter().map(|row| row.name().to_string()).collect();
    assert_eq!(names, ["[0]", "[1]"]);
    assert_all_gone(&families);
}

#[tokio::test(start_paused = true)]
async fn an_empty_vec_and_a_missing_child_need_no_cleanup() {
    let mut owner = owner(Vec::new(), None);
    let report = report(&mut spawn(owner.shutdown()), &[]).await;
    assert!(report.is_clean(), "{report}");
}

#[tokio::test(start_paused = true)]
async fn each_group_that_had_to_be_killed_has_its_own_error_and_the_others_are_done() {
    let (mut workers, families) = start([(OBEDIENT, MEEK), (GONE, STUBBORN), (OBEDIENT, STUBBORN)]);
    let helper = workers.pop();
    let mut owner = owner(workers, helper);
    let mut shutdown = spawn(owner.shutdown());
    assert_pending!(shutdown.poll());
    eventually(|| families[0].living().is_empty());
    families[2].leader_ended();
    advance(secs(8)).await;
    assert_pending!(shutdown.poll());
    advance(secs(1)).await;
    let report = report(&mut shutdown, &families.iter().collect::<Vec<_>>()).await;
    drop(shutdown);
    assert!(!report.is_clean());
    let workers = report.step("workers").unwrap();
    let outcome = |index: usize| workers.steps()[index].outcome().to_string();
    assert_eq!(outcome(0), "done");
    for (outcome, family) in [
        (outcome(1), &families[1]),
        (
            report.step("helper").unwrap().outcome().to_string(),
            &families[2],
        ),
    ] {
        let text = format!(
            "failed: process group {} outlived its leader and SIGTERM and had to be killed; what still ran: process {}",
            family.leader,
            family.read("rest.pid")[0]
        );
        assert_eq!(outcome, text);
    }
    assert_all_gone(&families);
}

// The clock jumps from before the soft deadline to after the hard deadline. So the cleanup cannot kill the group, and
// `abort` has to.
#[tokio::test(start_paused = true)]
async fn a_step_that_is_cut_at_its_hard_deadline_kills_the_survivors_of_the_leader() {
    let (workers, families) = start([(GONE, STUBBORN), (OBEDIENT, STUBBORN)]);
    let mut owner = owner(workers, None);
    {
        let mut shutdown = spawn(owner.shutdown());
        assert_pending!(shutdown.poll());
        families[1].leader_ended();
        advance(secs(20)).await;
        let report = report(&mut shutdown, &[]).await;
        assert!(!report.is_clean(), "{report}");
    }
    for family in &families {
        eventually(|| family.living().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_resumed_shutdown_cleans_groups_without_leaders() {
    let (mut workers, families) = start([(OBEDIENT, MEEK), (OBEDIENT, STUBBORN)]);
    let helper = workers.pop();
    let mut owner = owner(workers, helper);
    {
        let mut shutdown = spawn(owner.shutdown());
        assert_pending!(shutdown.poll());
        families[1].leader_ended();
        eventually(|| families[0].living().is_empty());
        advance(ms(100)).await;
        assert_pending!(shutdown.poll());
    }
    let mut shutdown = spawn(owner.shutdown());
    assert_pending!(shutdown.poll());
    advance(secs(9)).await;
    let report = report(&mut shutdown, &families.iter().collect::<Vec<_>>()).await;
    let outcome = |path| report.step(path).unwrap().outcome().to_string();
    assert_eq!(outcome("workers"), "done");
    let helper = outcome("helper");
    assert!(helper.contains("outlived its leader"), "{helper}");
    drop(shutdown);
    assert_all_gone(&families);
}

#[tokio::test]
async fn an_owner_that_is_dropped_without_a_shutdown_kills_its_groups() {
    let (_logs, _guard) = Logs::capture();
    let (mut workers, families) = start([
        (GONE, STUBBORN),
        (OBEDIENT, STUBBORN),
        (OBEDIENT, MEEK),
        (GONE, STUBBORN),
    ]);
    let helper = workers.pop();
    drop(owner(workers, helper));
    for family in &families {
        eventually(|| family.living().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn an_owner_dropped_during_its_shutdown_kills_the_survivors_of_the_leaders() {
    let (_logs, _guard) = Logs::capture();
    let (mut workers, families) = start([(GONE, STUBBORN), (OBEDIENT, STUBBORN)]);
    let helper = workers.pop();
    let mut owner = owner(workers, helper);
    assert_pending!(spawn(owner.shutdown()).poll());
    families[1].leader_ended();
    drop(owner);
    for family in &families {
        eventually(|| family.living().is_empty());
    }
}

//! `Option`, `Box` and `Arc` are cleaned like the value inside, without a row of their own.

use std::sync::Arc;
use std::time::Duration;

use lifecycle_runtime::{BoxError, Component, Context, DynComponent, GracefulShutdown, Report};
use lifecycle_tests::{Hold, Owner, Probe, TimedPart, Trace, context};
use tokio_test::{assert_pending, task::spawn};

/// A pool that several owners can share. Its probe is in a lock.
struct Pool {
    probe: tokio::sync::Mutex<Probe>,
    trace: Trace,
}

impl Component for &Pool {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        self.probe.lock().await.cleanup(cx).await
    }

    fn abort(&mut self) {
        self.trace.add("pool aborts");
    }

    fn release(&mut self) {
        self.trace.add("pool releases");
    }
}

fn pool(trace: &Trace) -> (Arc<Pool>, Hold) {
    let (probe, hold) = Probe::held(trace, "pool");
    let pool = Pool {
        probe: probe.into(),
        trace: trace.clone(),
    };
    (Arc::new(pool), hold)
}

fn rows(report: &Report) -> Vec<&str> {
    report
        .step("field")
        .unwrap()
        .steps()
        .iter()
        .map(|step| step.name())
        .collect()
}

#[tokio::test]
async fn an_empty_option_needs_no_cleanup() {
    let mut none: Option<Probe> = None;
    none.cleanup(&context()).await.unwrap();
    none.abort();
    none.release();
}

#[tokio::test(start_paused = true)]
async fn wrappers_have_the_rows_and_the_plan_of_their_value() {
    let trace = Trace::new();
    let part = || TimedPart {
        probe: Probe::new(&trace, "a"),
    };
    let one = Owner::new(Some(part())).shutdown().await;
    let two = Owner::new(Box::new(Some(part()))).shutdown().await;
    let three = Owner::new(Box::new(part()) as Box<dyn DynComponent>)
        .shutdown()
        .await;
    for report in [one, two, three] {
        assert_eq!(rows(&report), ["probe"], "{report}");
    }
    let budget = Some(Duration::from_secs(3));
    assert_eq!(Option::<TimedPart>::PLAN.budget(), budget);
    assert_eq!(Box::<Option<TimedPart>>::PLAN.budget(), budget);
    let object: Box<dyn DynComponent> = Box::new(part());
    let mut owner = Owner::new(Some(object));
    assert_eq!(owner.plan().step_budget("field.probe"), budget);
    owner.state.disarm();
}

#[test]
fn aborting_and_releasing_reach_the_value() {
    let trace = Trace::new();
    let mut inside = Some(Box::new(Probe::new(&trace, "a")));
    inside.abort();
    inside.release();
    assert_eq!(trace.take(), ["a aborts", "a releases"]);
}

#[tokio::test(start_paused = true)]
async fn a_plan_in_a_box_is_resumed_and_one_in_an_option_is_cleaned_again() {
    let trace = Trace::new();
    let (b, hold) = Probe::held(&trace, "b");
    let mut owner = Owner::new(Box::new((Probe::new(&trace, "a"), b)));
    assert_pending!(spawn(owner.shutdown()).poll());
    trace.take();
    hold.release();
    assert!(owner.shutdown().await.is_clean());
    assert_eq!(trace.take(), ["b begins", "b ends"]);

    // Between two runs other code may put another value into an option, so the resumed run cleans the value again.
    let (b, hold) = Probe::held(&trace, "b");
    let mut owner = Owner::new(Some((Probe::new(&trace, "a"), b)));
    assert_pending!(spawn(owner.shutdown()).poll());
    trace.take();
    hold.release();
    assert!(owner.shutdown().await.is_clean());
    let mut seen = trace.take();
    seen.sort();
    assert_eq!(seen, ["a begins", "a ends", "b begins", "b ends"]);
}

#[tokio::test]
async fn a_shared_value_is_cleaned_whoever_else_holds_it() {
    let trace = Trace::new();
    let (mut ours, hold) = pool(&trace);
    let theirs = Arc::clone(&ours);
    assert_pending!(spawn(ours.cleanup(&context())).poll());
    hold.release();
    ours.cleanup(&context()).await.unwrap();
    assert_eq!(
        trace.take(),
        ["pool begins", "pool is cut", "pool begins", "pool ends"]
    );
    drop(theirs);
}

#[tokio::test(start_paused = true)]
async fn a_shared_value_that_hangs_is_aborted_whoever_else_holds_it() {
    let trace = Trace::new();
    let (ours, _hold) = pool(&trace);
    let _theirs = Arc::clone(&ours);
    let report = Owner::new(Some(ours)).shutdown().await;
    assert!(!report.is_clean());
    assert_eq!(trace.take(), ["pool begins", "pool is cut", "pool aborts"]);
}

#[test]
fn only_the_last_owner_releases_a_shared_value() {
    let trace = Trace::new();
    let (ours, _hold) = pool(&trace);
    let theirs = Arc::clone(&ours);
    drop(Owner::new(ours));
    assert_eq!(trace.take(), [""; 0]);
    drop(Owner::new(theirs));
    assert_eq!(trace.take(), ["pool releases"]);
}

#[test]
fn a_shared_value_that_may_be_upgraded_is_not_released() {
    let trace = Trace::new();
    let (mut ours, _hold) = pool(&trace);
    let weak = Arc::downgrade(&ours);
    ours.release();
    assert_eq!(trace.take(), [""; 0]);
    drop(weak);
    ours.release();
    assert_eq!(trace.take(), ["pool releases"]);
}

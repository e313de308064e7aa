//! After an interruption, the next run of the shutdown finds every step whose cleanup was running, also deep inside the
//! server. If other code has removed the step before that run, the report says that it is gone.

use std::collections::BTreeMap;
use std::task::Poll;

use lifecycle_runtime::testing::Interrupt;
use lifecycle_runtime::{
    BoxError, Component, Context, DynComponent, GracefulShutdown, Outcome, Report, ShutdownState,
    Step,
};
use lifecycle_tests::{LeafOwner, LeafPart, Probe, Trace};
use tokio::task::{AbortHandle, JoinHandle};
use tokio_test::task::spawn;
use tokio_test::{assert_pending, assert_ready};

/// A part with two steps, of which the first is `best_effort`.
#[derive(GracefulShutdown)]
#[shutdown(part)]
struct Flat {
    #[shutdown(priority = 0, best_effort)]
    cache: LeafPart<Probe>,
    #[shutdown(priority = 0)]
    journal: Probe,
}

/// A component whose cleanup first moves the value out of its option, and then cleans it.
struct Taking(Option<LeafPart<Probe>>);

impl Component for Taking {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        match self.0.take() {
            Some(mut part) => part.cleanup(cx).await,
            None => Ok(()),
        }
    }
}

/// Returns a probe that hangs for ever.
fn held(trace: &Trace, name: &'static str) -> Probe {
    Probe::new(trace, name).hang()
}

/// Returns all rows of the report, each as `path outcome`.
fn rows(report: &Report) -> Vec<String> {
    fn collect(steps: &[Step], above: &str, rows: &mut Vec<String>) {
        for step in steps {
            let dot = if above.is_empty() || step.name().starts_with('[') {
                ""
            } else {
                "."
            };
            let path = format!("{above}{dot}{}", step.name());
            rows.push(format!("{path} {}", step.outcome()));
            collect(step.steps(), &path, rows);
        }
    }
    let mut all = Vec::new();
    collect(report.steps(), "", &mut all);
    all
}

fn endless() -> (JoinHandle<()>, AbortHandle) {
    let task = tokio::spawn(std::future::pending());
    let handle = task.abort_handle();
    (task, handle)
}

#[tokio::test(start_paused = true)]
async fn a_value_that_was_lost_in_flight_inside_an_element_is_reported() {
    let trace = Trace::new();
    let taking = Taking(Some(LeafPart::new(held(&trace, "a"))));
    let mut server = LeafOwner::new(vec![LeafPart::new(taking)]);
    server.interrupt();
    let report = server.shutdown().await;
    assert_eq!(trace.count("a ends"), 0);
    assert!(!report.is_clean(), "{report}");
}

#[tokio::test(start_paused = true)]
async fn an_element_that_was_removed_from_a_list_inside_an_option_is_reported() {
    let trace = Trace::new();
    let mut server = LeafOwner::new(Some(LeafPart::new(vec![held(&trace, "a")])));
    server.interrupt();
    server.field.as_mut().unwrap().it.clear();
    let report = server.shutdown().await;
    assert_eq!(trace.count("a ends"), 0);
    assert!(!report.is_clean(), "{report}");
}

#[tokio::test(start_paused = true)]
async fn the_error_of_an_owner_that_was_removed_stays_in_the_report() {
    let trace = Trace::new();
    let failed = Probe::new(&trace, "a").error("the disk is full");
    let mut server = LeafOwner::new(vec![LeafOwner::new((failed, held(&trace, "b")))]);
    server.interrupt();
    server.field.clear();
    let report = server.shutdown().await;
    assert!(!report.is_clean(), "{report}");
    assert!(report.to_string().contains("the disk is full"), "{report}");
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_moves_to_another_name_is_resumed_each_time() {
    let (task, handle) = endless();
    let mut server = LeafOwner::new(BTreeMap::from([(1, LeafOwner::new(task))]));
    server.interrupt();
    let owner = server.field.remove(&1).unwrap();
    server.field.insert(2, owner);
    server.interrupt();
    let mut shutdown = spawn(server.shutdown());
    let Poll::Pending = shutdown.poll() else {
        panic!("its task still runs");
    };
    handle.abort();
    tokio::task::yield_now().await;
    let report = assert_ready!(shutdown.poll());
    let panicked = rows(&report)
        .into_iter()
        .find(|row| row.contains("panicked"));
    assert_eq!(panicked, None, "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_hurry_cuts_waiting_best_effort_steps_inside_elements() {
    let trace = Trace::new();
    let (cache, journal) = (
        LeafPart::new(held(&trace, "cache")),
        Probe::new(&trace, "journal"),
    );
    let mut server = LeafOwner::new(vec![Flat { cache, journal }]);
    server.interrupt();
    let interrupt = Interrupt::of(&server.state).unwrap();
    let mut shutdown = spawn(server.shutdown());
    assert_pending!(shutdown.poll());
    interrupt.hurry();
    assert!(shutdown.is_woken());
    let report = assert_ready!(shutdown.poll());
    let cache = report.step("field[0].cache.it").unwrap();
    assert!(matches!(cache.outcome(), Outcome::Aborted), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_row_of_an_earlier_run_keeps_its_path() {
    let trace = Trace::new();
    let (failed, done) = (Probe::new(&trace, "a").error("no"), Probe::new(&trace, "b"));
    let (last, hold) = Probe::held(&trace, "c");
    // The next run cleans the elements of the inner list again, and then the failed element succeeds.
    let mut server = LeafOwner::new(vec![LeafPart::new(vec![
        LeafPart::new(failed),
        LeafPart::new(done),
        LeafPart::new(last),
    ])]);
    server.interrupt();
    server.field[0].it[0] = LeafPart::new(Probe::new(&trace, "a"));
    hold.release();
    let report = server.shutdown().await;
    let failed = rows(&report);
    let failed: Vec<_> = failed
        .iter()
        .filter(|row| row.contains("failed: no"))
        .collect();
    assert!(!failed.is_empty(), "{report}");
    for row in failed {
        assert!(
            row.starts_with("field[0].it[0]"),
            "{row} is not where it failed: {report}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_below_a_best_effort_step_leaves_the_report_clean_when_resumed() {
    let trace = Trace::new();
    let cache = LeafPart::new(Probe::new(&trace, "cache").error("cold"));
    let (journal, hold) = Probe::held(&trace, "journal");
    let mut server = LeafOwner::new(vec![Flat { cache, journal }]);
    server.interrupt();
    server.field[0].cache = LeafPart::new(Probe::new(&trace, "cache"));
    hold.release();
    let report = server.shutdown().await;
    assert!(report.is_clean(), "{report}");
}

#[derive(GracefulShutdown)]
#[shutdown(part)]
struct Chained {
    #[shutdown]
    first: Probe,
    #[shutdown]
    list: Vec<Probe>,
}

#[tokio::test(start_paused = true)]
async fn an_element_that_was_removed_two_runs_later_is_reported() {
    let trace = Trace::new();
    let list = vec![held(&trace, "a")];
    let first = Probe::new(&trace, "first");
    let mut server = LeafOwner::new(Some(Chained { first, list }));
    server.interrupt();
    // The second run stops at the field `first`, which is held, so it does not reach the list.
    let (first, hold) = Probe::held(&trace, "first again");
    server.field.as_mut().unwrap().first = first;
    server.interrupt();
    server.field.as_mut().unwrap().list.clear();
    hold.release();
    let report = server.shutdown().await;
    assert_eq!(trace.count("a ends"), 0);
    assert!(!report.is_clean(), "{report}");
}

#[tokio::test(start_paused = true)]
async fn reordered_elements_are_found_again_with_their_inner_steps() {
    let trace = Trace::new();
    let (a, hold_a) = Probe::held(&trace, "a");
    let (b, hold_b) = Probe::held(&trace, "b");
    let (c, hold_c) = Probe::held(&trace, "c");
    let mut server = LeafOwner::new(vec![LeafPart::new(vec![a, b]), LeafPart::new(vec![c])]);
    server.interrupt();
    server.field.reverse();
    for hold in [hold_a, hold_b, hold_c] {
        hold.release();
    }
    let report = server.shutdown().await;
    assert!(report.is_clean(), "{report}");
}

#[derive(GracefulShutdown)]
#[shutdown(part)]
struct Other {
    #[shutdown]
    probe: Probe,
}

/// A component that cleans a part, then a part of another type and a part of the first type, if it has them.
struct Kinds {
    first: LeafPart<Probe>,
    other: Option<Other>,
    second: Option<LeafPart<Probe>>,
}

impl Component for Kinds {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        let (first, other, second) = tokio::join!(
            self.first.cleanup(cx),
            self.other.cleanup(cx),
            self.second.cleanup(cx)
        );
        first.and(other).and(second)
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_part_is_not_confused_with_one_of_another_type() {
    let trace = Trace::new();
    let (first, hold) = Probe::held(&trace, "first");
    let other = Some(Other {
        probe: held(&trace, "other"),
    });
    let mut server = LeafOwner::new(Some(LeafPart::new(Kinds {
        first: LeafPart::new(first),
        other,
        second: None,
    })));
    server.interrupt();
    let kinds = &mut server.field.as_mut().unwrap().it;
    kinds.other = None;
    kinds.second = Some(LeafPart::new(Probe::new(&trace, "second")));
    hold.release();
    let report = server.shutdown().await;
    assert_eq!(trace.count("second ends"), 1);
    assert!(!report.is_clean(), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_part_in_an_option_of_a_part_in_a_field_is_found_again() {
    #[derive(GracefulShutdown)]
    struct Server {
        #[shutdown]
        field: LeafPart<Option<LeafPart<Probe>>>,
        #[shutdown(state)]
        state: ShutdownState,
    }
    let trace = Trace::new();
    let (probe, hold) = Probe::held(&trace, "a");
    let mut server = Server {
        field: LeafPart::new(Some(LeafPart::new(probe))),
        state: ShutdownState::new(),
    };
    for _ in 0..2 {
        assert_pending!(spawn(server.shutdown()).poll());
    }
    hold.release();
    let report = server.shutdown().await;
    assert!(report.is_clean(), "{report}");
}

#[tokio::test(start_paused = true)]
async fn an_element_that_a_task_of_its_name_replaced_is_reported() {
    let trace = Trace::new();
    let map = |it: Box<dyn DynComponent>| BTreeMap::from([("a", it)]);
    let hangs: Box<dyn DynComponent> = Box::new(held(&trace, "a"));
    let mut server = LeafOwner::new(Some(LeafPart::new(map(hangs))));
    server.interrupt();
    server.field.as_mut().unwrap().it = map(Box::new(tokio::spawn(async {})));
    let report = server.shutdown().await;
    assert_eq!(trace.count("a ends"), 0);
    assert!(!report.is_clean(), "{report}");
}

#[tokio::test(start_paused = true)]
async fn the_loss_inside_a_part_is_reported_also_when_the_part_is_dropped() {
    /// A component that cleans a part, drops it, and cleans something else.
    struct DropsItsPart(Option<LeafPart<Vec<Probe>>>, Probe);
    impl Component for DropsItsPart {
        async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
            if let Some(part) = &mut self.0 {
                part.cleanup(cx).await?;
            }
            self.0 = None;
            self.1.cleanup(cx).await
        }
    }
    let trace = Trace::new();
    let (last, hold) = Probe::held(&trace, "last");
    let list = vec![held(&trace, "a")];
    let mut server = LeafOwner::new(DropsItsPart(Some(LeafPart::new(list)), last));
    server.interrupt();
    server.field.0.as_mut().unwrap().it.clear();
    // The part ends in the first of these two runs, and the component drops it. So the later runs do not see the part.
    for _ in 0..2 {
        server.interrupt();
        assert!(server.field.0.is_none());
    }
    hold.release();
    let report = server.shutdown().await;
    assert_eq!(trace.count("a ends"), 0);
    assert!(!report.is_clean(), "{report}");
}

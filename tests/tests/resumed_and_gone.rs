//! What was in flight deep inside a server whose shutdown is dropped half-way: the next run finds it again, or says that
//! it is gone.

use std::collections::BTreeMap;
use std::task::Poll;

use lifecycle_runtime::testing::Interrupt;
use lifecycle_runtime::{
    BoxError, Component, Context, DynComponent, GracefulShutdown, Outcome, Report, ShutdownState,
    Step,
};
use lifecycle_tests::{Probe, Trace};
use tokio::task::{AbortHandle, JoinHandle};
use tokio_test::task::spawn;
use tokio_test::{assert_pending, assert_ready};

#[derive(GracefulShutdown)]
#[shutdown(timeout = "60s")]
struct Owner<T: Component> {
    #[shutdown(leaf)]
    field: T,
    #[shutdown(state)]
    state: ShutdownState,
}

impl<T: Component> Owner<T> {
    fn new(field: T) -> Self {
        let state = ShutdownState::new();
        Self { field, state }
    }

    /// Begins its shutdown, and drops the future half-way.
    fn cut(&mut self) {
        assert_pending!(spawn(self.shutdown()).poll());
    }
}

#[derive(GracefulShutdown)]
#[shutdown(part)]
struct Part<T: Component> {
    #[shutdown(leaf)]
    it: T,
}

/// Its first step is `best_effort`.
#[derive(GracefulShutdown)]
#[shutdown(part)]
struct Flat {
    #[shutdown(priority = 0, best_effort)]
    cache: Part<Probe>,
    #[shutdown(priority = 0)]
    journal: Probe,
}

/// Takes its value out to clean it.
struct Taking(Option<Part<Probe>>);

impl Component for Taking {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        match self.0.take() {
            Some(mut part) => part.cleanup(cx).await,
            None => Ok(()),
        }
    }
}

fn part<T: Component>(it: T) -> Part<T> {
    Part { it }
}

/// A probe that is held for ever.
fn held(trace: &Trace, name: &'static str) -> Probe {
    Probe::new(trace, name).hang()
}

/// All rows, each as `path outcome`.
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
async fn a_value_that_was_in_flight_inside_of_an_element_and_is_gone_is_told() {
    let trace = Trace::new();
    let taking = Taking(Some(part(held(&trace, "a"))));
    let mut server = Owner::new(vec![part(taking)]);
    server.cut();
    let report = server.shutdown().await;
    assert_eq!(trace.count("a ends"), 0);
    assert!(!report.is_clean(), "{report}");
}

#[tokio::test(start_paused = true)]
async fn an_element_that_was_removed_from_a_list_inside_of_an_option_is_told() {
    let trace = Trace::new();
    let mut server = Owner::new(Some(part(vec![held(&trace, "a")])));
    server.cut();
    server.field.as_mut().unwrap().it.clear();
    let report = server.shutdown().await;
    assert_eq!(trace.count("a ends"), 0);
    assert!(!report.is_clean(), "{report}");
}

#[tokio::test(start_paused = true)]
async fn the_error_of_an_owner_that_was_removed_stays_in_the_report() {
    let trace = Trace::new();
    let failed = Probe::new(&trace, "a").error("the disk is full");
    let mut server = Owner::new(vec![Owner::new((failed, held(&trace, "b")))]);
    server.cut();
    server.field.clear();
    let report = server.shutdown().await;
    assert!(!report.is_clean(), "{report}");
    assert!(report.to_string().contains("the disk is full"), "{report}");
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_comes_under_another_name_is_taken_up_again_and_again() {
    let (task, handle) = endless();
    let mut server = Owner::new(BTreeMap::from([(1, Owner::new(task))]));
    server.cut();
    let owner = server.field.remove(&1).unwrap();
    server.field.insert(2, owner);
    server.cut();
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
async fn a_hurry_cuts_best_effort_steps_inside_of_elements_while_they_wait() {
    let trace = Trace::new();
    let (cache, journal) = (part(held(&trace, "cache")), Probe::new(&trace, "journal"));
    let mut server = Owner::new(vec![Flat { cache, journal }]);
    server.cut();
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
async fn a_row_of_an_earlier_run_stays_under_its_path() {
    let trace = Trace::new();
    let (failed, done) = (Probe::new(&trace, "a").error("no"), Probe::new(&trace, "b"));
    let (last, hold) = Probe::held(&trace, "c");
    // The elements of the inner list are cleaned again, and end well.
    let mut server = Owner::new(vec![part(vec![part(failed), part(done), part(last)])]);
    server.cut();
    server.field[0].it[0] = part(Probe::new(&trace, "a"));
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
async fn what_failed_below_a_best_effort_step_leaves_the_report_clean_when_it_is_cleaned_again() {
    let trace = Trace::new();
    let cache = part(Probe::new(&trace, "cache").error("cold"));
    let (journal, hold) = Probe::held(&trace, "journal");
    let mut server = Owner::new(vec![Flat { cache, journal }]);
    server.cut();
    server.field[0].cache = part(Probe::new(&trace, "cache"));
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
async fn an_element_that_was_removed_two_runs_later_is_told() {
    let trace = Trace::new();
    let list = vec![held(&trace, "a")];
    let first = Probe::new(&trace, "first");
    let mut server = Owner::new(Some(Chained { first, list }));
    server.cut();
    // The second run does not get to the list.
    let (first, hold) = Probe::held(&trace, "first again");
    server.field.as_mut().unwrap().first = first;
    server.cut();
    server.field.as_mut().unwrap().list.clear();
    hold.release();
    let report = server.shutdown().await;
    assert_eq!(trace.count("a ends"), 0);
    assert!(!report.is_clean(), "{report}");
}

#[tokio::test(start_paused = true)]
async fn elements_in_another_order_are_found_again_with_what_is_inside_them() {
    let trace = Trace::new();
    let (a, hold_a) = Probe::held(&trace, "a");
    let (b, hold_b) = Probe::held(&trace, "b");
    let (c, hold_c) = Probe::held(&trace, "c");
    let mut server = Owner::new(vec![part(vec![a, b]), part(vec![c])]);
    server.cut();
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

/// Cleans a part, and then one of another type and one of the same type where there are such.
struct Kinds {
    first: Part<Probe>,
    other: Option<Other>,
    second: Option<Part<Probe>>,
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
async fn a_part_that_is_gone_is_not_found_in_one_of_another_type() {
    let trace = Trace::new();
    let (first, hold) = Probe::held(&trace, "first");
    let other = Some(Other {
        probe: held(&trace, "other"),
    });
    let mut server = Owner::new(Some(part(Kinds {
        first: part(first),
        other,
        second: None,
    })));
    server.cut();
    let kinds = &mut server.field.as_mut().unwrap().it;
    kinds.other = None;
    kinds.second = Some(part(Probe::new(&trace, "second")));
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
        field: Part<Option<Part<Probe>>>,
        #[shutdown(state)]
        state: ShutdownState,
    }
    let trace = Trace::new();
    let (probe, hold) = Probe::held(&trace, "a");
    let mut server = Server {
        field: part(Some(part(probe))),
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
async fn an_element_that_a_task_of_its_name_took_the_place_of_is_told() {
    let trace = Trace::new();
    let map = |it: Box<dyn DynComponent>| BTreeMap::from([("a", it)]);
    let hangs: Box<dyn DynComponent> = Box::new(held(&trace, "a"));
    let mut server = Owner::new(Some(part(map(hangs))));
    server.cut();
    server.field.as_mut().unwrap().it = map(Box::new(tokio::spawn(async {})));
    let report = server.shutdown().await;
    assert_eq!(trace.count("a ends"), 0);
    assert!(!report.is_clean(), "{report}");
}

#[tokio::test(start_paused = true)]
async fn what_a_part_lost_is_told_also_when_the_part_itself_is_let_go_of() {
    /// Cleans a part, lets go of it, and cleans something else.
    struct LetsGo(Option<Part<Vec<Probe>>>, Probe);
    impl Component for LetsGo {
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
    let mut server = Owner::new(LetsGo(Some(part(list)), last));
    server.cut();
    server.field.0.as_mut().unwrap().it.clear();
    // The part ends and is gone; two more runs do not see it any more.
    for _ in 0..2 {
        server.cut();
        assert!(server.field.0.is_none());
    }
    hold.release();
    let report = server.shutdown().await;
    assert_eq!(trace.count("a ends"), 0);
    assert!(!report.is_clean(), "{report}");
}

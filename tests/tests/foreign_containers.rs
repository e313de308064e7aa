//! The elements of a container are cleaned at the same time, and the report has a row for each.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lifecycle_runtime::{
    BoxError, Component, Context, DynComponent, GracefulShutdown, Outcome, Report, Step,
};
use lifecycle_tests::{Owner, Probe, TimedPart, Trace, context, secs};
use tokio_test::{assert_pending, task::spawn};

/// A part with containers of leaves. A container of leaves has no budget, so its step may get less than the second that
/// a plan assumes for a single leaf.
#[derive(GracefulShutdown)]
#[shutdown(part)]
struct Brief {
    #[shutdown(timeout = "100ms")]
    list: Vec<Probe>,
    #[shutdown(timeout = "100ms")]
    pair: (Probe, Probe),
}

/// A part that contains parts of its own type.
#[derive(GracefulShutdown)]
#[shutdown(part)]
struct Node {
    #[shutdown]
    probe: Probe,
    #[shutdown(leaf)]
    next: Option<Box<Node>>,
    #[shutdown(leaf)]
    children: Vec<Node>,
}

fn outcome(report: &Report, path: &str) -> String {
    report
        .step(path)
        .unwrap_or_else(|| panic!("no {path} in {report}"))
        .outcome()
        .to_string()
}

#[tokio::test(start_paused = true)]
async fn every_element_of_a_list_has_its_own_row() {
    let trace = Trace::new();
    let mut owner = Owner::new(vec![
        Probe::new(&trace, "a"),
        Probe::new(&trace, "b").error("no disk"),
        Probe::new(&trace, "c").says("its peer").hang(),
        Probe::new(&trace, "d").panic("bad"),
    ]);
    let report = owner.shutdown().await;
    let rows: Vec<_> = report
        .step("field")
        .unwrap()
        .steps()
        .iter()
        .map(|step| step.name())
        .collect();
    assert_eq!(rows, ["[0]", "[1]", "[2]", "[3]"]);
    assert_eq!(outcome(&report, "field[0]"), "done");
    assert_eq!(outcome(&report, "field[1]"), "failed: no disk");
    assert_eq!(
        outcome(&report, "field[2]"),
        "timed out: waiting for its peer"
    );
    assert_eq!(outcome(&report, "field[3]"), "panicked: bad");
    assert!(!report.is_clean());
    // The engine aborted each element whose cleanup did not succeed, and aborted it once.
    for (name, times) in [
        ("a aborts", 0),
        ("b aborts", 1),
        ("c aborts", 1),
        ("d aborts", 1),
    ] {
        assert_eq!(trace.count(name), times, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn elements_are_cleaned_at_the_same_time() {
    let trace = Trace::new();
    let probe = |name| Probe::new(&trace, name).sleep(secs(2));
    let array = Owner::new([probe("a"), probe("b")]).shutdown().await;
    let deque = Owner::new(VecDeque::from([probe("c"), probe("d")]))
        .shutdown()
        .await;
    let map = Owner::new(BTreeMap::from([(1, probe("e")), (2, probe("f"))]))
        .shutdown()
        .await;
    let tuple = Owner::new((probe("g"), probe("h"))).shutdown().await;
    for report in [array, deque, map, tuple] {
        assert!(report.is_clean(), "{report}");
        assert_eq!(report.elapsed(), secs(2));
        assert_eq!(report.steps()[0].steps().len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn the_rows_of_a_map_are_named_by_its_keys() {
    #[derive(Debug, PartialEq, Eq, Hash)]
    enum Port {
        Tcp(u16),
    }
    let trace = Trace::new();
    let probe = |name| Probe::new(&trace, name);
    let names = HashMap::from([
        ("auth".to_owned(), probe("a")),
        ("say \"hi\"".to_owned(), probe("b")),
    ]);
    let report = Owner::new((names, HashMap::from([(Port::Tcp(80), probe("c"))])))
        .shutdown()
        .await;
    for path in [
        "field.0[auth]",
        "field.0[say \\\"hi\\\"]",
        "field.1[Tcp(80)]",
    ] {
        assert!(report.step(path).is_some(), "no {path} in {report}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_position_of_a_tuple_has_its_own_row() {
    let trace = Trace::new();
    let (a, b) = (
        Probe::new(&trace, "a").says("its peer").hang(),
        Probe::new(&trace, "b"),
    );
    let report = Owner::new((a, b)).shutdown().await;
    assert_eq!(
        outcome(&report, "field.0"),
        "timed out: waiting for its peer"
    );
    assert_eq!(outcome(&report, "field.1"), "done");
    assert_eq!(trace.count("a aborts"), 1);
    assert_eq!(trace.count("b aborts"), 0);
}

#[tokio::test]
async fn an_empty_container_needs_no_cleanup() {
    Vec::<Probe>::new().cleanup(&context()).await.unwrap();
    HashMap::<String, Probe>::new()
        .cleanup(&context())
        .await
        .unwrap();
    let report = Owner::new(<[Probe; 0]>::default()).shutdown().await;
    assert!(report.is_clean(), "{report}");
}

#[tokio::test]
async fn a_second_cleanup_of_containers_finds_nothing_to_do() {
    let task = || tokio::spawn(async {});
    let mut all = (
        vec![task(), task()],
        [task()],
        VecDeque::from([task()]),
        HashMap::from([("a", task())]),
        BTreeMap::from([(1, task())]),
    );
    all.cleanup(&context()).await.unwrap();
    all.cleanup(&context()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_resumed_shutdown_cleans_elements_of_lists_again_and_positions_of_tuples_once() {
    let trace = Trace::new();
    let (b, hold_b) = Probe::held(&trace, "b");
    let (d, hold_d) = Probe::held(&trace, "d");
    let list = vec![Probe::new(&trace, "a"), b];
    let mut owner = Owner::new((list, (Probe::new(&trace, "c"), d)));
    assert_pending!(spawn(owner.shutdown()).poll());
    trace.take();
    hold_b.release();
    hold_d.release();
    let report = owner.shutdown().await;
    assert!(report.is_clean(), "{report}");
    let mut seen = trace.take();
    seen.sort();
    assert_eq!(
        seen,
        [
            "a begins", "a ends", "b begins", "b ends", "d begins", "d ends"
        ]
    );
    for path in ["field.0[0]", "field.0[1]", "field.1.0", "field.1.1"] {
        assert_eq!(outcome(&report, path), "done");
    }
}

#[test]
fn aborting_and_releasing_reach_every_element_also_after_one_that_panics() {
    let trace = Trace::new();
    let probe = |name| Probe::new(&trace, name);
    let broken = |name| probe(name).abort_panics().release_panics();
    let containers: [Box<dyn DynComponent>; 4] = [
        Box::new(vec![broken("a"), probe("b")]),
        Box::new([broken("a"), probe("b")]),
        Box::new(VecDeque::from([broken("a"), probe("b")])),
        Box::new(BTreeMap::from([(1, broken("a")), (2, probe("b"))])),
    ];
    for mut container in containers {
        let panicked = catch_unwind(AssertUnwindSafe(|| container.abort())).unwrap_err();
        assert_eq!(*panicked.downcast::<String>().unwrap(), "the abort of a");
        assert_eq!(trace.take(), ["a aborts", "b aborts"]);
        let panicked = catch_unwind(AssertUnwindSafe(|| container.release())).unwrap_err();
        assert_eq!(*panicked.downcast::<String>().unwrap(), "the release of a");
        assert_eq!(trace.take(), ["a releases", "b releases"]);
    }
    // A tuple logs the panic of an element, like a derived struct.
    let mut tuple = (broken("a"), probe("b"));
    tuple.abort();
    tuple.release();
    assert_eq!(
        trace.take(),
        ["a aborts", "b aborts", "a releases", "b releases"]
    );
}

/// A component that wakes itself three times, and counts its polls.
struct Counted(Arc<AtomicUsize>);

impl Component for Counted {
    async fn cleanup(&mut self, _cx: &Context) -> Result<(), BoxError> {
        for _ in 0..3 {
            self.0.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_elements_are_polled_only_when_woken() {
    let polls = Arc::new(AtomicUsize::new(0));
    let list: Vec<_> = (0..10_000).map(|_| Counted(Arc::clone(&polls))).collect();
    let report = Owner::new(list).shutdown().await;
    assert!(report.is_clean());
    assert_eq!(report.step("field").unwrap().steps().len(), 10_000);
    assert_eq!(polls.load(Ordering::Relaxed), 30_000);
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_tasks_are_awaited_aborted_and_awaited_again() {
    let tasks: Vec<_> = (0..10_000)
        .map(|_| tokio::spawn(std::future::pending::<()>()))
        .collect();
    let mut owner = Owner::new(tasks);
    let report = owner.shutdown().await;
    let steps = report.step("field").unwrap().steps();
    let timed_out = |step: &Step| matches!(step.outcome(), Outcome::TimedOut { .. });
    assert!(steps.len() == 10_000 && steps.iter().all(timed_out));
    assert!(owner.field.iter().all(|task| task.is_finished()));
}

#[test]
fn a_container_of_leaves_has_no_budget_and_one_of_parts_has_a_parts_budget() {
    fn budget<T: Component>() -> Option<Duration> {
        T::PLAN.budget()
    }
    assert_eq!(budget::<Vec<Probe>>(), None);
    assert_eq!(budget::<HashMap<String, Probe>>(), None);
    assert_eq!(budget::<(Probe, Vec<Probe>)>(), None);
    assert_eq!(Brief::PLAN.budget(), Some(Duration::from_millis(200)));

    assert_eq!(budget::<Vec<TimedPart>>(), Some(secs(3)));
    assert_eq!(budget::<[TimedPart; 7]>(), Some(secs(3)));
    assert_eq!(budget::<VecDeque<TimedPart>>(), Some(secs(3)));
    assert_eq!(budget::<BTreeMap<u8, Vec<TimedPart>>>(), Some(secs(3)));
    assert_eq!(budget::<(Probe, TimedPart)>(), Some(secs(3)));
    assert_eq!(
        budget::<(TimedPart, Option<Box<TimedPart>>)>(),
        Some(secs(3))
    );
    let table = <Vec<TimedPart>>::PLAN.to_string();
    assert!(table.contains("[…]") && table.contains("probe"), "{table}");
}

#[test]
fn a_resolved_plan_has_the_longest_budget_of_its_objects() {
    let trace = Trace::new();
    let plugins: Vec<Box<dyn DynComponent>> = vec![
        Box::new(Probe::new(&trace, "a")),
        Box::new(TimedPart {
            probe: Probe::new(&trace, "b"),
        }),
    ];
    let mut owner = Owner::new((plugins, Probe::new(&trace, "c")));
    assert_eq!(<(Vec<Box<dyn DynComponent>>, Probe)>::PLAN.budget(), None);
    let plan = owner.plan();
    assert_eq!(plan.step_budget("field"), Some(secs(3)), "{plan}");
    assert_eq!(
        plan.step_budget("field.0.[…].probe"),
        Some(secs(3)),
        "{plan}"
    );
    owner.state.disarm();
}

#[tokio::test(start_paused = true)]
async fn a_recursive_type_is_cleaned_to_its_end() {
    let trace = Trace::new();
    let node = |name, next, children| Node {
        probe: Probe::new(&trace, name),
        next,
        children,
    };
    let inner = Box::new(node("b", None, vec![]));
    let list = node(
        "a",
        Some(inner),
        vec![node("c", None, vec![node("d", None, vec![])])],
    );
    let report = Owner::new(list).shutdown().await;
    assert!(report.is_clean(), "{report}");
    for name in ["a ends", "b ends", "c ends", "d ends"] {
        assert_eq!(trace.count(name), 1, "{name}");
    }
    assert!(matches!(
        report
            .step("field.children[0].children[0].probe")
            .unwrap()
            .outcome(),
        Outcome::Done
    ));
}

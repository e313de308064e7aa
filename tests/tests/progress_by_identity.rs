//! The progress of a shutdown belongs to a component, and not to the component's position or name. Whatever changes
//! between two runs, each component is cleaned.

use lifecycle_runtime::{
    BoxError, Component, Components, Context, DynComponent, GracefulShutdown, Outcome, Report,
};
use lifecycle_tests::{Hold, Owner, Probe, TimedPart, Trace};
use tokio::task::JoinHandle;

fn part(trace: &Trace, name: &'static str) -> TimedPart {
    let probe = Probe::new(trace, name);
    TimedPart { probe }
}

fn held_part(trace: &Trace, name: &'static str) -> (TimedPart, Hold) {
    let (probe, hold) = Probe::held(trace, name);
    (TimedPart { probe }, hold)
}

fn outcomes(report: &Report, path: &str) -> Vec<String> {
    let steps = report
        .step(path)
        .map(|step| step.steps())
        .unwrap_or_default();
    steps
        .iter()
        .map(|step| format!("{} {}", step.name(), step.outcome()))
        .collect()
}

/// A component that cleans an owner and then two parts of one type, always in the same order.
struct Mixed {
    owner: Owner<Probe>,
    one: TimedPart,
    two: TimedPart,
}

impl Component for Mixed {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        self.owner.cleanup(cx).await?;
        self.one.cleanup(cx).await?;
        self.two.cleanup(cx).await
    }
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_ended_before_is_not_confused_with_a_part() {
    let trace = Trace::new();
    let mut server = Owner::new(Mixed {
        owner: Owner::new(Probe::new(&trace, "owner")),
        one: part(&trace, "one"),
        two: part(&trace, "two"),
    });
    server.field.owner.shutdown().await;
    let report = server.shutdown().await;
    assert!(report.is_clean(), "{report}");
    for name in ["owner ends", "one ends", "two ends"] {
        assert_eq!(trace.count(name), 1, "{name}");
    }
}

/// A component that cleans its last part and drops it, and repeats that until no part is left.
struct Popping(Vec<TimedPart>);

impl Component for Popping {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        while let Some(last) = self.0.last_mut() {
            last.cleanup(cx).await?;
            self.0.pop();
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_component_that_pops_its_cleaned_parts_cleans_the_one_in_flight_again() {
    let trace = Trace::new();
    let (held, hold) = held_part(&trace, "b");
    let parts = vec![part(&trace, "a"), held, part(&trace, "c")];
    let mut server = Owner::new(Popping(parts));
    server.interrupt();
    assert_eq!(server.field.0.len(), 2);
    hold.release();
    let report = server.shutdown().await;
    assert!(report.is_clean() && server.field.0.is_empty(), "{report}");
    for name in ["a ends", "b ends", "c ends"] {
        assert_eq!(trace.count(name), 1, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_that_was_lost_in_flight_is_aborted_and_not_done() {
    struct Taking(Option<TimedPart>);
    impl Component for Taking {
        async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
            match self.0.take() {
                Some(mut part) => part.cleanup(cx).await,
                None => Ok(()),
            }
        }
    }
    let trace = Trace::new();
    let mut server = Owner::new(Taking(Some(held_part(&trace, "a").0)));
    server.interrupt();
    let report = server.shutdown().await;
    assert!(!report.is_clean(), "{report}");
    let step = report.step("field").unwrap();
    assert!(matches!(step.outcome(), Outcome::Aborted), "{report}");
    let step = report.step("field.probe").unwrap();
    assert!(matches!(step.outcome(), Outcome::Aborted), "{report}");
    assert_eq!(
        step.why(),
        Some("it had begun, and was gone when the shutdown was resumed")
    );
}

#[tokio::test(start_paused = true)]
async fn a_part_that_one_run_does_not_reach_is_resumed_by_the_next() {
    struct Gated(Probe, TimedPart);
    impl Component for Gated {
        async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
            self.0.cleanup(cx).await?;
            self.1.cleanup(cx).await
        }
    }
    let trace = Trace::new();
    let (held, hold) = held_part(&trace, "part");
    let mut server = Owner::new(Gated(Probe::new(&trace, "gate"), held));
    server.interrupt();
    let (gate, open) = Probe::held(&trace, "gate again");
    server.field.0 = gate;
    for _ in 0..2 {
        server.interrupt();
    }
    open.release();
    hold.release();
    let report = server.shutdown().await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(trace.count("part ends"), 1);
}

#[tokio::test(start_paused = true)]
async fn elements_that_had_ended_may_be_reordered_removed_and_joined_by_others() {
    let trace = Trace::new();
    let (held, hold) = held_part(&trace, "b");
    let mut server = Owner::new(vec![part(&trace, "a"), held]);
    server.interrupt();
    server.field.reverse();
    server.field.push(part(&trace, "new"));
    hold.release();
    let report = server.shutdown().await;
    assert!(report.is_clean(), "{report}");
    for name in ["b ends", "new ends"] {
        assert_eq!(trace.count(name), 1, "{name}");
    }
    assert_eq!(
        outcomes(&report, "field"),
        ["[0] done", "[1] done", "[2] done"]
    );
}

#[tokio::test(start_paused = true)]
async fn an_element_that_was_removed_before_it_had_ended_is_reported() {
    let trace = Trace::new();
    let (held, _hold) = held_part(&trace, "b");
    let mut server = Owner::new(vec![part(&trace, "a"), held]);
    server.interrupt();
    server.field.remove(1);
    let report = server.shutdown().await;
    assert!(!report.is_clean(), "{report}");
    assert_eq!(
        outcomes(&report, "field"),
        ["[removed] aborted", "[0] done"]
    );
}

#[tokio::test(start_paused = true)]
async fn removed_elements_are_counted_if_they_had_not_ended() {
    let trace = Trace::new();
    let held = |name| held_part(&trace, name).0;
    let list = vec![part(&trace, "a"), held("b"), held("c")];
    let mut server = Owner::new(list);
    server.interrupt();
    server.field.clear();
    let report = server.shutdown().await;
    assert_eq!(
        report.step("field[removed]").unwrap().why(),
        Some("2 elements were removed before their cleanup had ended")
    );
}

#[tokio::test(start_paused = true)]
async fn a_key_that_was_removed_after_it_had_ended_is_no_loss() {
    let trace = Trace::new();
    let (held, hold) = held_part(&trace, "b");
    let map = [("a", part(&trace, "a")), ("b", held)];
    let mut server = Owner::new(std::collections::BTreeMap::from(map));
    server.interrupt();
    server.field.remove("a");
    hold.release();
    let report = server.shutdown().await;
    assert!(report.is_clean(), "{report}");
    assert!(report.step("field[a]").unwrap().outcome().is_done());
}

#[tokio::test(start_paused = true)]
async fn a_key_that_was_removed_before_it_had_ended_is_reported_by_name() {
    let trace = Trace::new();
    let (held, _hold) = held_part(&trace, "b");
    let map = [("a", part(&trace, "a")), ("b", held)];
    let mut server = Owner::new(std::collections::BTreeMap::from(map));
    server.interrupt();
    server.field.remove("b");
    let report = server.shutdown().await;
    assert!(!report.is_clean(), "{report}");
    let gone = report.step("field[b]").unwrap();
    assert!(matches!(gone.outcome(), Outcome::Aborted), "{report}");
    assert!(report.step("field[a]").unwrap().outcome().is_done());
}

#[tokio::test(start_paused = true)]
async fn a_failure_before_an_interruption_stays_in_the_report() {
    let trace = Trace::new();
    let failing = TimedPart {
        probe: Probe::new(&trace, "a").error("the disk is full"),
    };
    let (held, hold) = held_part(&trace, "b");
    let mut server = Owner::new(vec![failing, held]);
    server.interrupt();
    // A new part takes the place of the first one, and its cleanup succeeds.
    server.field[0] = part(&trace, "a");
    hold.release();
    let report = server.shutdown().await;
    assert!(!report.is_clean(), "{report}");
    assert!(report.to_string().contains("the disk is full"), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_boxed_object_may_have_been_replaced_and_is_cleaned_again() {
    let trace = Trace::new();
    #[derive(GracefulShutdown)]
    #[shutdown(part)]
    struct Pair {
        #[shutdown(priority = 0)]
        first: Probe,
        #[shutdown(priority = 1)]
        second: Probe,
    }
    let (second, _hold) = Probe::held(&trace, "second");
    let first = Probe::new(&trace, "first");
    let mut server: Owner<Box<dyn DynComponent>> = Owner::new(Box::new(Pair { first, second }));
    server.interrupt();
    trace.take();
    server.field = Box::new(Pair {
        first: Probe::new(&trace, "other first"),
        second: Probe::new(&trace, "other second"),
    });
    let report = server.shutdown().await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(
        (
            trace.count("other first ends"),
            trace.count("other second ends")
        ),
        (1, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn components_with_the_same_name_are_distinguished_by_their_ids() {
    let trace = Trace::new();
    let components = Components::new();
    let (held, hold) = held_part(&trace, "b");
    components.insert("same", part(&trace, "a")).ok().unwrap();
    components.insert("same", held).ok().unwrap();
    let mut server = Owner::new(components);
    server.interrupt();
    hold.release();
    let report = server.shutdown().await;
    assert!(report.is_clean(), "{report}");
    assert_eq!((trace.count("a ends"), trace.count("b ends")), (1, 1));
    assert_eq!(trace.count("a begins"), 1, "known by its id, and ended");
    assert_eq!(outcomes(&report, "field"), ["[same] done", "[same] done"]);
}

/// A component that cleans a part and two lists of tasks together.
struct Tasks {
    part: TimedPart,
    lists: [Vec<JoinHandle<()>>; 2],
}

impl Component for Tasks {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        let [one, two] = &mut self.lists;
        let (part, one, two) =
            tokio::join!(self.part.cleanup(cx), one.cleanup(cx), two.cleanup(cx));
        part.and(one).and(two)
    }
}

fn endless() -> JoinHandle<()> {
    tokio::spawn(std::future::pending())
}

#[tokio::test(start_paused = true)]
async fn lists_that_are_cleaned_together_keep_their_own_elements() {
    let trace = Trace::new();
    let lists = [vec![endless(), endless()], vec![endless()]];
    let part = part(&trace, "part");
    let mut server = Owner::new(Tasks { part, lists });
    let handles: Vec<_> = server.field.lists.iter().flatten().collect();
    let handles: Vec<_> = handles.iter().map(|task| task.abort_handle()).collect();
    server.interrupt();
    server.interrupt();
    handles.iter().for_each(|task| task.abort());
    let report = server.shutdown().await;
    assert!(report.is_clean(), "{report}");
    let rows = ["probe done", "[0] done", "[1] done", "[0] done"];
    assert_eq!(outcomes(&report, "field"), rows);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_was_removed_before_it_had_ended_is_reported_beside_a_part() {
    let trace = Trace::new();
    let (part, hold) = held_part(&trace, "part");
    let lists = [vec![endless()], Vec::new()];
    let mut server = Owner::new(Tasks { part, lists });
    server.interrupt();
    server.field.lists[0].clear();
    hold.release();
    let report = server.shutdown().await;
    assert!(!report.is_clean(), "{report}");
    assert_eq!(outcomes(&report, "field"), ["[0] aborted", "probe done"]);
}

#[tokio::test(start_paused = true)]
async fn an_owner_in_a_list_carries_its_own_progress() {
    let trace = Trace::new();
    let (held, hold) = Probe::held(&trace, "b");
    let mut server = Owner::new(vec![Owner::new(Probe::new(&trace, "a")), Owner::new(held)]);
    server.interrupt();
    server.field.reverse();
    hold.release();
    let report = server.shutdown().await;
    assert!(report.is_clean(), "{report}");
    assert_eq!((trace.count("a begins"), trace.count("b begins")), (1, 2));
    assert_eq!((trace.count("a ends"), trace.count("b ends")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_may_be_interrupted_and_resumed_many_times() {
    let trace = Trace::new();
    let (one, hold_one) = held_part(&trace, "one");
    let (two, hold_two) = held_part(&trace, "two");
    let mut server = Owner::new(Popping(vec![two, one]));
    for _ in 0..3 {
        server.interrupt();
    }
    hold_one.release();
    for _ in 0..3 {
        server.interrupt();
    }
    hold_two.release();
    let report = server.shutdown().await;
    assert!(report.is_clean(), "{report}");
    assert_eq!((trace.count("one ends"), trace.count("two ends")), (1, 1));
}

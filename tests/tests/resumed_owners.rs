//! Owners inside of a server whose shutdown is dropped half-way and taken up again: each keeps its own progress, and is
//! told of once, wherever it is by then.

use lifecycle_runtime::{
    BoxError, Component, Context, GracefulShutdown, Outcome, Report, ShutdownState, Step,
};
use lifecycle_tests::{Probe, Trace};
use tokio_test::assert_pending;
use tokio_test::task::spawn;

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

fn part<T: Component>(it: T) -> Part<T> {
    Part { it }
}

/// Cleans an owner, whatever comes of it, and then a part.
struct Both {
    owner: Owner<Probe>,
    part: Part<Probe>,
}

impl Component for Both {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        let _ = self.owner.cleanup(cx).await;
        self.part.cleanup(cx).await
    }
}

/// How often an outcome that is told by this text is in the report.
fn count(report: &Report, outcome: &str) -> usize {
    fn inside(steps: &[Step], outcome: &str) -> usize {
        let of = |step: &Step| {
            let own = usize::from(step.steps().is_empty() && step.outcome().to_string() == outcome);
            own + inside(step.steps(), outcome)
        };
        steps.iter().map(of).sum()
    }
    inside(report.steps(), outcome)
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_is_taken_up_again_and_again_is_told_of_once() {
    let trace = Trace::new();
    let (held, hold) = Probe::held(&trace, "a");
    let mut server = Owner::new(Some(part(Owner::new(held))));
    for _ in 0..3 {
        server.cut();
    }
    hold.release();
    let report = server.shutdown().await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.step("field.it").unwrap().steps().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_owner_in_a_list_in_a_list_is_found_again_beside_others() {
    let trace = Trace::new();
    let (a, hold_a) = Probe::held(&trace, "a");
    let (b, hold_b) = Probe::held(&trace, "b");
    let mut server = Owner::new(vec![vec![Owner::new(a)], vec![Owner::new(b)]]);
    for _ in 0..3 {
        server.cut();
        server.field.reverse();
    }
    hold_a.release();
    hold_b.release();
    let report = server.shutdown().await;
    assert!(report.is_clean(), "{report}");
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_ended_in_an_earlier_run_is_told_of_once() {
    let trace = Trace::new();
    let owner = Owner::new(Probe::new(&trace, "owner").error("no"));
    let (held, hold) = Probe::held(&trace, "part");
    let part = part(held);
    let mut server = Owner::new(vec![Both { owner, part }]);
    server.cut();
    hold.release();
    let report = server.shutdown().await;
    assert_eq!(count(&report, "failed: no"), 1, "{report}");
    assert_eq!(trace.count("owner begins"), 1);
}

#[tokio::test(start_paused = true)]
async fn the_failure_of_an_owner_that_another_took_the_place_of_stays_in_the_report() {
    let trace = Trace::new();
    let owner = Owner::new(Probe::new(&trace, "owner").error("no"));
    let (held, hold) = Probe::held(&trace, "part");
    let part = part(held);
    let mut server = Owner::new(vec![Both { owner, part }]);
    server.cut();
    server.field[0].owner = Owner::new(Probe::new(&trace, "other"));
    hold.release();
    let report = server.shutdown().await;
    assert_eq!(count(&report, "failed: no"), 1, "{report}");
    assert_eq!(trace.count("other ends"), 1);
}

/// Cleans two parts, whatever comes of the first.
struct Lenient {
    one: Part<Probe>,
    two: Part<Probe>,
}

impl Component for Lenient {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        let _ = self.one.cleanup(cx).await;
        self.two.cleanup(cx).await
    }
}

#[tokio::test(start_paused = true)]
async fn the_failure_of_a_part_that_had_ended_inside_of_an_element_stays_in_the_report() {
    let trace = Trace::new();
    let one = part(Probe::new(&trace, "one").error("no"));
    let (held, hold) = Probe::held(&trace, "two");
    let two = part(held);
    let mut server = Owner::new(vec![Lenient { one, two }]);
    server.cut();
    // Its second cleanup goes well.
    server.field[0].one = part(Probe::new(&trace, "one"));
    hold.release();
    let report = server.shutdown().await;
    assert_eq!(count(&report, "failed: no"), 1, "{report}");
}

/// Cleans an owner where there is one.
struct Holder(Option<Owner<Probe>>);

impl Component for Holder {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        match &mut self.0 {
            Some(owner) => owner.cleanup(cx).await,
            None => Ok(()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_was_taken_out_is_told_as_aborted_and_goes_on_by_itself() {
    let trace = Trace::new();
    let (held, hold) = Probe::held(&trace, "a");
    let mut server = Owner::new(Holder(Some(Owner::new(held))));
    server.cut();
    let mut owner = server.field.0.take().unwrap();
    let report = server.shutdown().await;
    let step = report.step("field.field").expect("what was in flight");
    assert!(matches!(step.outcome(), Outcome::Aborted), "{report}");
    assert!(!report.is_clean(), "{report}");
    hold.release();
    let report = owner.shutdown().await;
    assert!(report.step("field").unwrap().outcome().is_done());
    assert_eq!(trace.count("a ends"), 1);
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_was_moved_out_of_an_element_goes_on_by_itself() {
    let trace = Trace::new();
    let (held, hold) = Probe::held(&trace, "a");
    let mut server = Owner::new(vec![Owner::new(held)]);
    server.cut();
    let mut owner = server.field.pop().unwrap();
    let report = server.shutdown().await;
    assert!(!report.is_clean(), "{report}");
    hold.release();
    let report = owner.shutdown().await;
    assert!(report.step("field").unwrap().outcome().is_done());
    assert_eq!(trace.count("a ends"), 1);
}

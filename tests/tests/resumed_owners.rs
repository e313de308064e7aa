//! If a shutdown is interrupted and resumed, the owners inside the server keep their own progress. The report has each
//! of them once, wherever the owner is by then.

use lifecycle_runtime::{BoxError, Component, Context, GracefulShutdown, Outcome, Report, Step};
use lifecycle_tests::{LeafOwner, LeafPart, Probe, Trace};

/// A component that cleans an owner, and then a part, whether the owner succeeded or not.
struct Both {
    owner: LeafOwner<Probe>,
    part: LeafPart<Probe>,
}

impl Component for Both {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        let _ = self.owner.cleanup(cx).await;
        self.part.cleanup(cx).await
    }
}

/// Returns how many rows of the report have the outcome with this text.
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
async fn an_owner_that_is_resumed_many_times_is_reported_once() {
    let trace = Trace::new();
    let (held, hold) = Probe::held(&trace, "a");
    let mut server = LeafOwner::new(Some(LeafPart::new(LeafOwner::new(held))));
    for _ in 0..3 {
        server.interrupt();
    }
    hold.release();
    let report = server.shutdown().await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.step("field.it").unwrap().steps().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_owner_in_a_nested_list_is_found_again_beside_others() {
    let trace = Trace::new();
    let (a, hold_a) = Probe::held(&trace, "a");
    let (b, hold_b) = Probe::held(&trace, "b");
    let mut server = LeafOwner::new(vec![vec![LeafOwner::new(a)], vec![LeafOwner::new(b)]]);
    for _ in 0..3 {
        server.interrupt();
        server.field.reverse();
    }
    hold_a.release();
    hold_b.release();
    let report = server.shutdown().await;
    assert!(report.is_clean(), "{report}");
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_ended_in_an_earlier_run_is_reported_once() {
    let trace = Trace::new();
    let owner = LeafOwner::new(Probe::new(&trace, "owner").error("no"));
    let (held, hold) = Probe::held(&trace, "part");
    let part = LeafPart::new(held);
    let mut server = LeafOwner::new(vec![Both { owner, part }]);
    server.interrupt();
    hold.release();
    let report = server.shutdown().await;
    assert_eq!(count(&report, "failed: no"), 1, "{report}");
    assert_eq!(trace.count("owner begins"), 1);
}

#[tokio::test(start_paused = true)]
async fn the_failure_of_a_replaced_owner_stays_in_the_report() {
    let trace = Trace::new();
    let owner = LeafOwner::new(Probe::new(&trace, "owner").error("no"));
    let (held, hold) = Probe::held(&trace, "part");
    let part = LeafPart::new(held);
    let mut server = LeafOwner::new(vec![Both { owner, part }]);
    server.interrupt();
    server.field[0].owner = LeafOwner::new(Probe::new(&trace, "other"));
    hold.release();
    let report = server.shutdown().await;
    assert_eq!(count(&report, "failed: no"), 1, "{report}");
    assert_eq!(trace.count("other ends"), 1);
}

/// A component that cleans two parts. It cleans the second whether the first succeeded or not.
struct Lenient {
    one: LeafPart<Probe>,
    two: LeafPart<Probe>,
}

impl Component for Lenient {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        let _ = self.one.cleanup(cx).await;
        self.two.cleanup(cx).await
    }
}

#[tokio::test(start_paused = true)]
async fn the_failure_of_a_part_inside_an_element_stays_in_the_report() {
    let trace = Trace::new();
    let one = LeafPart::new(Probe::new(&trace, "one").error("no"));
    let (held, hold) = Probe::held(&trace, "two");
    let two = LeafPart::new(held);
    let mut server = LeafOwner::new(vec![Lenient { one, two }]);
    server.interrupt();
    // A new part takes the place of the first one, and its cleanup succeeds.
    server.field[0].one = LeafPart::new(Probe::new(&trace, "one"));
    hold.release();
    let report = server.shutdown().await;
    assert_eq!(count(&report, "failed: no"), 1, "{report}");
}

/// A component that cleans an owner, if it has one.
struct Holder(Option<LeafOwner<Probe>>);

impl Component for Holder {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        match &mut self.0 {
            Some(owner) => owner.cleanup(cx).await,
            None => Ok(()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_was_taken_out_is_reported_as_aborted_and_goes_on_by_itself() {
    let trace = Trace::new();
    let (held, hold) = Probe::held(&trace, "a");
    let mut server = LeafOwner::new(Holder(Some(LeafOwner::new(held))));
    server.interrupt();
    let mut owner = server.field.0.take().unwrap();
    let report = server.shutdown().await;
    let step = report
        .step("field.field")
        .expect("the row of the owner in flight");
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
    let mut server = LeafOwner::new(vec![LeafOwner::new(held)]);
    server.interrupt();
    let mut owner = server.field.pop().unwrap();
    let report = server.shutdown().await;
    assert!(!report.is_clean(), "{report}");
    hold.release();
    let report = owner.shutdown().await;
    assert!(report.step("field").unwrap().outcome().is_done());
    assert_eq!(trace.count("a ends"), 1);
}

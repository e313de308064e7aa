//! The engine catches every panic of code that it calls. The shutdown goes on, and the report is complete.

use std::error::Error;
use std::fmt;
use std::future::{Future, pending};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::time::Duration;

use lifecycle_runtime::{
    BoxError, Component, Context, GracefulShutdown, Outcome, Report, ShutdownState,
};
use lifecycle_tests::{Probe, Trace, listen_everywhere, secs};
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber, span};

/// A tracing subscriber that panics at each event with the text of its first field, and counts its panics.
struct Panics(&'static str, AtomicUsize);

struct Name(String);

impl Visit for Name {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

impl Subscriber for Panics {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "lifecycle"
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut name = Name(String::new());
        event.record(&mut name);
        if name.0.contains(self.0) {
            self.1.fetch_add(1, Ordering::Relaxed);
            panic!("the subscriber at {}", name.0);
        }
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[derive(GracefulShutdown)]
#[shutdown(timeout = "20s")]
struct Server<T: Component> {
    #[shutdown(priority = 0, leaf)]
    odd: T,
    #[shutdown(priority = 1)]
    list: Vec<Probe>,
    #[shutdown(priority = 2)]
    last: Probe,
    #[shutdown(state)]
    state: ShutdownState,
}

fn server<T: Component>(trace: &Trace, odd: T) -> Server<T> {
    Server {
        odd,
        list: vec![Probe::new(trace, "element")],
        last: Probe::new(trace, "last"),
        state: ShutdownState::new(),
    }
}

/// Shuts down a server with `odd` in its first step, and asserts that all other steps run and the report is complete.
async fn shut_down_with<T: Component>(odd: T) -> Report {
    let trace = Trace::new();
    let mut server = server(&trace, odd);
    let report = server.shutdown().await;
    // The other forms of the report must not panic either, whatever is in it.
    let _ = (
        report.to_string(),
        format!("{report:?}"),
        report.to_mermaid(),
    );
    let _ = report
        .clone()
        .into_result()
        .map_err(|error| error.to_string());
    assert_eq!(
        (trace.count("element ends"), trace.count("last ends")),
        (1, 1)
    );
    assert_eq!(report.steps().len(), 3, "{report}");
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(server)));
    assert!(dropped.is_ok(), "out of the drop");
    report
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_panics_at_an_event_is_contained() {
    listen_everywhere();
    let trace = Trace::new();
    for event in [
        "shutdown_begin",
        "step_end",
        "shutdown_progress",
        "shutdown_end",
        "abort",
    ] {
        let subscriber = Arc::new(Panics(event, AtomicUsize::new(0)));
        let guard = tracing::subscriber::set_default(Arc::clone(&subscriber));
        let odd = Probe::new(&trace, "odd").hang().abort_panics();
        let report = shut_down_with(odd).await;
        drop(guard);
        assert!(
            subscriber.1.load(Ordering::Relaxed) > 0,
            "{event} was not reached"
        );
        assert!(matches!(
            report.step("odd").unwrap().outcome(),
            Outcome::TimedOut { .. }
        ));
    }
    let subscriber = Arc::new(Panics("dropped_unshut", AtomicUsize::new(0)));
    let guard = tracing::subscriber::set_default(Arc::clone(&subscriber));
    let odd = Probe::new(&trace, "odd");
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(server(&trace, odd))));
    drop(guard);
    assert!(dropped.is_ok() && subscriber.1.load(Ordering::Relaxed) == 1);
}

/// An error that panics at one operation: when it is displayed, asked for its cause, or dropped.
#[derive(Debug)]
struct Hostile(&'static str);

impl fmt::Display for Hostile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        assert_ne!(self.0, "display", "shown");
        f.write_str(self.0)
    }
}

impl Error for Hostile {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        assert_ne!(self.0, "source", "asked for its cause");
        None
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        assert_ne!(self.0, "drop", "dropped");
    }
}

struct Fails(&'static str);

impl Component for Fails {
    async fn cleanup(&mut self, _: &Context) -> Result<(), BoxError> {
        Err(Hostile(self.0).into())
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_that_panics_when_it_is_shown_or_dropped_is_contained() {
    for how in ["display", "source", "drop"] {
        let report = shut_down_with(Fails(how)).await;
        assert!(matches!(
            report.step("odd").unwrap().outcome(),
            Outcome::Failed(_)
        ));
        // The test drops the last clone of the error, so the test must catch the panic in its drop.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(report)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_cleanup_that_panics_in_its_poll_its_drop_or_its_abort_is_contained() {
    let trace = Trace::new();
    let odd = || Probe::new(&trace, "odd");
    let report = shut_down_with(odd().panic("poll").abort_panics()).await;
    assert!(matches!(
        report.step("odd").unwrap().outcome(),
        Outcome::Panicked(_)
    ));
    let report = shut_down_with(odd().hang().cut_panics().abort_panics()).await;
    assert!(matches!(
        report.step("odd").unwrap().outcome(),
        Outcome::TimedOut { .. }
    ));
}

/// A value that panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

/// A component that gives the engine closures. The closures panic when they are called, and when they are dropped.
struct PanickingClosures;

impl Component for PanickingClosures {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        let bombs = (Bomb, Bomb, Bomb);
        let (one, two, three) = bombs;
        cx.waiting_for(move || {
            let _ = &one;
            String::new()
        });
        cx.waiting_for(move || {
            let _ = &two;
            panic!("asked")
        });
        cx.on_force(move || drop(three));
        pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn closures_that_panic_when_they_are_called_or_dropped_are_contained() {
    let report = shut_down_with(PanickingClosures).await;
    let outcome = report.step("odd").unwrap().outcome().to_string();
    assert_eq!(
        outcome,
        "timed out: waiting for (its `waiting_for` panicked: asked)"
    );
}

/// A key of a map that panics when it is displayed.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key;

impl fmt::Debug for Key {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("a key")
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_panics_when_it_is_shown_is_contained() {
    let trace = Trace::new();
    let map = std::collections::BTreeMap::from([(Key, Probe::new(&trace, "odd"))]);
    let report = shut_down_with(map).await;
    assert!(matches!(
        report.step("odd").unwrap().outcome(),
        Outcome::Panicked(_)
    ));
    assert_eq!(trace.all(), ["odd aborts"], "not called done, but aborted");
}

#[tokio::test(start_paused = true)]
async fn a_timeout_expression_that_panics_is_contained() {
    #[derive(GracefulShutdown)]
    struct Timed {
        #[shutdown(timeout = panics())]
        odd: Probe,
        #[shutdown(state)]
        state: ShutdownState,
    }
    fn panics() -> Duration {
        panic!("no time")
    }
    let trace = Trace::new();
    let state = ShutdownState::new();
    let odd = Probe::new(&trace, "odd");
    assert!(Timed { odd, state }.shutdown().await.is_clean());
}

/// A component that panics. The payload of its panic panics again when it is dropped.
struct NastyPayload;

impl Component for NastyPayload {
    async fn cleanup(&mut self, _: &Context) -> Result<(), BoxError> {
        std::panic::panic_any(Bomb)
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_whose_payload_panics_is_contained() {
    let report = shut_down_with(NastyPayload).await;
    let outcome = report.step("odd").unwrap().outcome().to_string();
    assert_eq!(outcome, "panicked: a panic without a text");
}

/// A waker that panics when it is woken, and counts how often that happens.
struct Woken(AtomicUsize);

impl Woken {
    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
        panic!("woken");
    }
}

#[test]
fn a_waker_that_panics_is_contained() {
    // Outside a runtime the library's own timer thread calls the waker.
    let trace = Trace::new();
    let mut server = server(&trace, Probe::new(&trace, "odd").hang());
    let woken = Arc::new(Woken(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = TaskContext::from_waker(&waker);
    let mut shutdown = pin!(server.shutdown().within(Duration::from_millis(200)));
    let began = std::time::Instant::now();
    let report = loop {
        let before = woken.count();
        if let Poll::Ready(report) = shutdown.as_mut().poll(&mut cx) {
            break report;
        }
        while woken.count() == before {
            assert!(began.elapsed() < secs(20), "it is not woken");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    assert!(matches!(
        report.step("odd").unwrap().outcome(),
        Outcome::TimedOut { .. }
    ));
    assert_eq!(trace.count("last ends"), 1);
}

/// A component that ends at once, and hands the engine a `waiting_for` closure that panics when it is dropped.
struct ClosureThatOutlivesItsStep;

impl Component for ClosureThatOutlivesItsStep {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        let bomb = Bomb;
        cx.waiting_for(move || {
            let _ = &bomb;
            String::new()
        });
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_closure_that_panics_when_its_step_is_done_is_contained() {
    let report = shut_down_with(ClosureThatOutlivesItsStep).await;
    assert!(report.is_clean(), "{report}");
}

/// A component that hangs, and hands the engine closures that panic when they are dropped.
struct Leaves;

impl Component for Leaves {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        let (one, two) = (Bomb, Bomb);
        cx.waiting_for(move || {
            let _ = &one;
            String::new()
        });
        cx.on_force(move || drop(two));
        pending().await
    }
}

/// Polls the shutdown of a server with `odd` in its first step, drops the shutdown's future, and drops the server.
fn interrupt_and_drop<T: Component>(odd: T) {
    let mut server = server(&Trace::new(), odd);
    let mut shutdown = tokio_test::task::spawn(server.shutdown());
    assert!(shutdown.poll().is_pending());
    drop(shutdown);
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(server)));
    assert!(dropped.is_ok(), "out of the drop");
}

#[tokio::test(start_paused = true)]
async fn closures_that_panic_when_an_interrupted_owner_is_dropped_are_contained() {
    interrupt_and_drop(vec![Leaves, Leaves, Leaves]);
}

#[tokio::test(start_paused = true)]
async fn errors_that_panic_when_an_interrupted_owner_is_dropped_are_contained() {
    let hangs = Probe::new(&Trace::new(), "hangs").hang();
    interrupt_and_drop((Fails("drop"), Fails("drop"), hangs));
}

#[tokio::test(start_paused = true)]
async fn an_error_that_panics_when_a_server_is_dropped_after_its_shutdown_is_contained() {
    let mut server = server(&Trace::new(), Fails("drop"));
    drop(server.shutdown().await);
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(server)));
    assert!(dropped.is_ok(), "out of the drop");
}

/// A tracing subscriber that panics at one operation on spans, and counts its panics. The first field names the
/// operation.
struct SpanPanics(&'static str, AtomicUsize);

impl SpanPanics {
    fn at(&self, what: &str) {
        if self.0 == what {
            self.1.fetch_add(1, Ordering::Relaxed);
            panic!("the subscriber at a span: {what}");
        }
    }
}

impl Subscriber for SpanPanics {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "lifecycle"
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        self.at("made");
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {
        self.at("recorded");
    }
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, _: &span::Id) {
        self.at("entered");
    }
    fn exit(&self, _: &span::Id) {
        self.at("left");
    }
    fn try_close(&self, _: span::Id) -> bool {
        self.at("closed");
        true
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_panics_at_a_use_of_a_span_is_contained() {
    listen_everywhere();
    let trace = Trace::new();
    for what in ["made", "recorded", "entered", "left", "closed"] {
        let subscriber = Arc::new(SpanPanics(what, AtomicUsize::new(0)));
        let guard = tracing::subscriber::set_default(Arc::clone(&subscriber));
        let report = shut_down_with(Probe::new(&trace, "odd").sleep(secs(1))).await;
        drop(guard);
        assert!(subscriber.1.load(Ordering::Relaxed) > 0, "{what}");
        assert!(report.is_clean(), "{what}: {report}");
    }
}

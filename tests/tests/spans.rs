//! A line that is logged inside a cleanup is in the span of its step.

use std::sync::{Arc, Mutex, PoisonError};

use lifecycle_runtime::{
    BoxError, Component, Context, GracefulShutdown, Reason, Runner, ShutdownHandle, ShutdownState,
    Stop,
};
use lifecycle_tests::{listen_everywhere, secs};
use tokio::time::sleep;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::layer::{Context as LayerContext, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

/// The logged events, each with the spans around it, and the spans that have been closed.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<(Vec<String>, Vec<String>)>>);

/// The fields of a span as text.
#[derive(Default)]
struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.push_str(&format!(" {}={value:?}", field.name()));
    }
}

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Seen {
    fn on_new_span(&self, span: &Attributes<'_>, id: &Id, cx: LayerContext<'_, S>) {
        let mut fields = Fields::default();
        span.record(&mut fields);
        let span = cx.span(id).expect("it is there");
        span.extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, cx: LayerContext<'_, S>) {
        let span = cx.span(id).expect("it is there");
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            record.record(fields);
        }
    }

    fn on_close(&self, id: Id, cx: LayerContext<'_, S>) {
        let span = cx.span(&id).expect("it is there");
        let fields = span.extensions().get::<Fields>().map(|f| f.0.clone());
        let closed = format!("{}{}", span.name(), fields.unwrap_or_default());
        self.lock().1.push(closed);
    }

    fn on_event(&self, event: &tracing::Event<'_>, cx: LayerContext<'_, S>) {
        if event.metadata().target() != "the_test" {
            return;
        }
        let mut message = Fields::default();
        event.record(&mut message);
        let scope = cx.event_scope(event).into_iter().flatten();
        let spans: Vec<_> = scope
            .map(|span| {
                let fields = span.extensions().get::<Fields>().map(|f| f.0.clone());
                format!("{}{}", span.name(), fields.unwrap_or_default())
            })
            .collect();
        let line = format!("{} in [{}]", message.0.trim(), spans.join(" < "));
        self.lock().0.push(line);
    }
}

impl Seen {
    fn capture() -> (Self, DefaultGuard) {
        listen_everywhere();
        let seen = Self::default();
        let subscriber = tracing_subscriber::registry().with(seen.clone());
        (seen, tracing::subscriber::set_default(subscriber))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (Vec<String>, Vec<String>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the only event with `what` in its text.
    fn event(&self, what: &str) -> String {
        let events = &self.lock().0;
        let mut events = events.iter().filter(|event| event.contains(what));
        let event = events.next().unwrap_or_else(|| panic!("no `{what}`"));
        assert!(events.next().is_none(), "`{what}` twice");
        event.clone()
    }

    fn closed(&self, start: &str) -> String {
        let closed = &self.lock().1;
        let found = closed.iter().find(|span| span.starts_with(start));
        found
            .unwrap_or_else(|| panic!("no {start}: {closed:?}"))
            .clone()
    }
}

/// A component that logs a line, waits, and logs another line. Its cleanup fails if the second field is `true`.
struct LogsLines(&'static str, bool);

impl Component for LogsLines {
    async fn cleanup(&mut self, _: &Context) -> Result<(), BoxError> {
        tracing::info!(target: "the_test", "{} begins", self.0);
        sleep(secs(1)).await;
        tracing::info!(target: "the_test", "{} ends", self.0);
        match self.1 {
            true => Err("no".into()),
            false => Ok(()),
        }
    }

    fn abort(&mut self) {
        tracing::info!(target: "the_test", "{} is aborted", self.0);
    }
}

#[derive(GracefulShutdown)]
#[shutdown(part)]
struct Storage {
    #[shutdown]
    journal: LogsLines,
}

#[derive(GracefulShutdown)]
#[shutdown(timeout = "20s")]
struct Server {
    #[shutdown(priority = 0, timeout = "3s")]
    listener: LogsLines,
    #[shutdown(priority = 0, timeout = "4s")]
    cache: LogsLines,
    #[shutdown(priority = 1)]
    storage: Storage,
    #[shutdown(priority = 2)]
    list: Vec<LogsLines>,
    #[shutdown(state)]
    state: ShutdownState,
}

fn server() -> Server {
    Server {
        listener: LogsLines("listener", false),
        cache: LogsLines("cache", true),
        storage: Storage {
            journal: LogsLines("journal", false),
        },
        list: vec![LogsLines("element", false)],
        state: ShutdownState::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_line_of_a_cleanup_is_in_its_step_span_inside_the_shutdown_span() {
    let (seen, guard) = Seen::capture();
    let mut server = server();
    let report = server.shutdown().await;
    drop(guard);
    assert!(!report.is_clean(), "{report}");
    let shutdown = "shutdown component=\"Server\" reason=requested budget_ms=20000";
    // The engine enters a step's span at each poll of the step, so the lines of steps that overlap stay in their own
    // spans.
    for (what, step) in [
        (
            "listener begins",
            "step component=\"Server\" step=\"listener\" budget_ms=3000",
        ),
        (
            "listener ends",
            "step component=\"Server\" step=\"listener\" budget_ms=3000",
        ),
        (
            "cache ends",
            "step component=\"Server\" step=\"cache\" budget_ms=4000",
        ),
        (
            "cache is aborted",
            "step component=\"Server\" step=\"cache\" budget_ms=4000",
        ),
    ] {
        let event = seen.event(what);
        assert!(
            event.ends_with(&format!(" in [{step} < {shutdown}]")),
            "{event}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn spans_of_nested_steps_and_elements_are_inside_their_steps_span() {
    let (seen, guard) = Seen::capture();
    let mut server = server();
    server.shutdown().await;
    drop(guard);
    let journal = seen.event("journal ends");
    assert!(
        journal.contains("step=\"storage.journal\"")
            && journal.contains(" < step component=\"Server\" step=\"storage\""),
        "{journal}"
    );
    let element = seen.event("element ends");
    assert!(
        element.contains("step=\"list[0]\"") && element.contains("step=\"list\""),
        "{element}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_step_span_records_the_outcome() {
    let (seen, guard) = Seen::capture();
    let mut server = server();
    server.shutdown().await;
    drop(guard);
    let cache = seen.closed("step component=\"Server\" step=\"cache\"");
    assert!(cache.ends_with("outcome=\"failed\""), "{cache}");
    let listener = seen.closed("step component=\"Server\" step=\"listener\"");
    assert!(listener.ends_with("outcome=\"done\""), "{listener}");
}

#[tokio::test(start_paused = true)]
async fn a_runners_shutdown_is_one_trace_that_contains_main() {
    let (seen, guard) = Seen::capture();
    let handle = ShutdownHandle::new();
    let asks = handle.clone();
    Runner::new(server())
        .handle(&handle)
        .deregister("consul", async || {
            tracing::info!(target: "the_test", "deregistered");
        })
        .run(async |_: &mut Server, stop: Stop| {
            tracing::info!(target: "the_test", "main serves");
            asks.request(Reason::Requested);
            stop.cancelled().await;
            tracing::info!(target: "the_test", "main was told");
        })
        .await;
    drop(guard);
    assert_eq!(
        seen.event("main serves"),
        "message=main serves in []",
        "no shutdown goes on yet"
    );
    for (what, step) in [
        ("deregistered", "step=\"lame_duck\""),
        ("main was told", "step=\"main\""),
        ("journal ends", "step=\"storage.journal\""),
    ] {
        let event = seen.event(what);
        assert!(event.contains(step), "{event}");
        assert_eq!(event.matches("shutdown component").count(), 1, "{event}");
    }
}

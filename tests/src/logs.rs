//! Captures the log events of target `lifecycle`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, Once, PoisonError};

use tracing::field::{Field, Visit};
use tracing::subscriber::DefaultGuard;
use tracing::{Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

/// The captured events. Clones of a `Logs` share the same events.
#[derive(Clone, Debug, Default)]
pub struct Logs(Arc<Mutex<Vec<Event>>>);

/// A captured log event.
#[derive(Clone, Debug)]
pub struct Event {
    pub level: Level,
    /// The message of the event, which is the event's name.
    pub name: String,
    pub fields: BTreeMap<&'static str, String>,
}

impl Event {
    /// Returns a field's value as text, or an empty string if the event has no such field.
    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    /// Returns a field's value as a number.
    ///
    /// # Panics
    ///
    /// If the event has no such field, or its value is not a number.
    pub fn number(&self, name: &str) -> u64 {
        let text = self.field(name);
        text.parse()
            .unwrap_or_else(|_| panic!("`{name}` is `{text}`, in {self:?}"))
    }

    pub fn field_names(&self) -> Vec<&'static str> {
        self.fields.keys().copied().collect()
    }
}

impl Logs {
    /// Captures the events that this thread logs until the returned guard is dropped.
    pub fn capture() -> (Self, DefaultGuard) {
        listen_everywhere();
        let logs = Self::default();
        let guard = tracing::subscriber::set_default(logs.subscriber());
        (logs, guard)
    }

    /// Captures the events that `f` logs on this thread.
    pub fn of<R>(f: impl FnOnce() -> R) -> (Self, R) {
        let (logs, guard) = Self::capture();
        let returned = f();
        drop(guard);
        (logs, returned)
    }

    /// Returns a subscriber that captures into these logs, for other threads of the test.
    pub fn subscriber(&self) -> impl Subscriber + Send + Sync + use<> {
        tracing_subscriber::registry().with(Capture(self.clone()))
    }

    pub fn all(&self) -> Vec<Event> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub fn named(&self, name: &str) -> Vec<Event> {
        self.all()
            .into_iter()
            .filter(|event| event.name == name)
            .collect()
    }

    /// Returns the only event of this name.
    ///
    /// # Panics
    ///
    /// If there is no such event, or more than one.
    pub fn only(&self, name: &str) -> Event {
        match self.named(name).as_slice() {
            [event] => event.clone(),
            events => panic!("{} events `{name}`: {events:#?}", events.len()),
        }
    }
}

/// Sets a global subscriber, for tests that set one for their thread. Without it, an event or a span that another thread
/// reaches first, and without a subscriber, would be disabled for all threads while only one subscriber exists.
pub fn listen_everywhere() {
    static LISTEN: Once = Once::new();
    LISTEN.call_once(|| {
        // Another test of the process may have set a global subscriber already.
        let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry());
    });
}

struct Capture(Logs);

impl<S: Subscriber> Layer<S> for Capture {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() != "lifecycle" {
            return;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        let name = fields.0.remove("message").unwrap_or_default();
        let event = Event {
            level: *event.metadata().level(),
            name,
            fields: fields.0,
        };
        self.0
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(event);
    }
}

#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

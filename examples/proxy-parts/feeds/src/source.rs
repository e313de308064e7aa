//! A client of server-sent events that reconnects. After each end of the stream it waits, longer
//! each time and for a partly random time. Then it requests the events after the last event that it
//! has seen.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use bytes::Bytes;
use futures_util::StreamExt as _;
use hyper::StatusCode;
use hyper::body::Body;
use lifecycle_runtime::BoxError;
use sse_stream::Sse;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::reader::{self, Limits};

/// The pause before the first attempt to reconnect, unless the server sends a `retry`.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The longest pause before an attempt to reconnect, unless the server's `retry` is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The shortest and the longest `retry` of a server that the source accepts. A value outside is
/// replaced by the nearer bound.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3600));

/// The state of a source, which reads a stream of events.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// The source has requested the stream and waits for the response.
    Connecting,
    /// The stream is open, and the source reads events.
    Open,
    /// The source waits for this long before it requests the stream again.
    BackingOff(Duration),
    /// The server has ended the feed for good.
    Ended,
}

impl State {
    /// The names of all states, for logs and labels.
    pub const NAMES: [&str; 4] = ["connecting", "open", "backing_off", "ended"];

    /// Returns the state's name, for logs and labels.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connecting => Self::NAMES[0],
            Self::Open => Self::NAMES[1],
            Self::BackingOff(_) => Self::NAMES[2],
            Self::Ended => Self::NAMES[3],
        }
    }
}

/// The answer to a request for the stream.
#[derive(Debug)]
pub enum Answer<B> {
    /// A stream of events.
    Stream(B),
    /// A response without a stream. Status 204 means that the feed has ended for good.
    Status(StatusCode),
}

/// Values from the server. The source keeps them when a connection ends.
#[derive(Debug, Default)]
struct Position {
    last_event: Option<String>,
    retry: Option<Duration>,
}

/// A source of events, whose state can be watched while it runs.
pub struct Source {
    name: String,
    limits: Limits,
    state: watch::Sender<State>,
    position: Mutex<Position>,
    opened: AtomicU64,
}

impl Source {
    /// Creates a source. It connects when [`run`](Self::run) is called.
    #[must_use]
    pub fn new(name: String, limits: Limits) -> Self {
        Self {
            name,
            limits,
            state: watch::Sender::new(State::Connecting),
            position: Mutex::default(),
            opened: AtomicU64::new(0),
        }
    }

    /// Returns a receiver that shows the current state of the source.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Returns the number of streams that have been opened.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// Requests the stream with `connect`, and passes its events to `take`. Reconnects until the
    /// server ends the feed for good. `connect` gets the id of the last event.
    ///
    /// # Cancel safety
    ///
    /// Safe: the next `run` continues after the last event that was passed to `take`.
    pub async fn run<B, F>(
        &self,
        mut connect: impl FnMut(Option<String>) -> F,
        mut take: impl FnMut(Sse),
    ) where
        B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
        F: Future<Output = Result<Answer<B>, BoxError>>,
    {
        let feed = self.name.as_str();
        let mut pauses = None;
        loop {
            self.state.send_replace(State::Connecting);
            let last = self.position().last_event.clone();
            let fault: BoxError = match connect(last).await {
                Ok(Answer::Status(StatusCode::NO_CONTENT)) => {
                    info!(feed, "the feed has ended for good");
                    self.state.send_replace(State::Ended);
                    return;
                }
                Ok(Answer::Status(status)) => format!("the answer was {status}").into(),
                Ok(Answer::Stream(body)) => {
                    self.opened.fetch_add(1, Ordering::Relaxed);
                    self.state.send_replace(State::Open);
                    info!(feed, "the feed is open");
                    let (any, fault) = self.read(body, &mut take).await;
                    if any {
                        // The stream brought an event, so the pauses begin with the shortest one
                        // again.
                        pauses = None;
                    }
                    fault
                }
                Err(error) => error,
            };
            let is_first = pauses.is_none();
            let pauses = pauses.get_or_insert_with(|| pauses_from(self.first_pause()));
            let pause = pauses.next().unwrap_or(LONGEST_PAUSE);
            self.state.send_replace(State::BackingOff(pause));
            self.complain(&*fault, pause, is_first);
            sleep(pause).await;
        }
    }

    /// Logs a failure: the first failure as a warning, each repetition at debug level.
    fn complain(&self, fault: &(dyn Error + 'static), pause: Duration, is_first: bool) {
        let feed = self.name.as_str();
        let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        if is_first {
            warn!(
                feed,
                error = fault,
                pause_ms,
                "the feed was lost: reconnecting"
            );
        } else {
            debug!(feed, error = fault, pause_ms, "the feed is still lost");
        }
    }

    /// Reads the stream until it ends or fails. Returns whether any event came, and the reason for
    /// the end.
    async fn read<B>(&self, body: B, take: &mut impl FnMut(Sse)) -> (bool, BoxError)
    where
        B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
    {
        let mut any = false;
        let mut events = pin!(reader::events(body, self.limits));
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    any = true;
                    self.remember(&event);
                    take(event);
                }
                Err(error) => return (any, error.into()),
            }
        }
        (any, "the server ended the stream".into())
    }

    fn remember(&self, event: &Sse) {
        let mut position = self.position();
        if let Some(id) = &event.id {
            position.last_event = (!id.is_empty()).then(|| id.clone());
        }
        if let Some(retry) = event.retry {
            let (least, most) = RETRY;
            position.retry = Some(Duration::from_millis(retry).clamp(least, most));
        }
    }

    fn first_pause(&self) -> Duration {
        self.position().retry.unwrap_or(FIRST_PAUSE)
    }

    fn position(&self) -> MutexGuard<'_, Position> {
        self.position.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("name", &self.name)
            .field("state", &*self.state.borrow())
            .finish_non_exhaustive()
    }
}

/// Returns pauses that double each time, with a random addition.
fn pauses_from(first: Duration) -> impl Iterator<Item = Duration> {
    ExponentialBuilder::new()
        .with_min_delay(first)
        .with_max_delay(LONGEST_PAUSE.max(first))
        .with_factor(2.0)
        .without_max_times()
        .with_jitter()
        .build()
}

#[cfg(test)]
mod tests;

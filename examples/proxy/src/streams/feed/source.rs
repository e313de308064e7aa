//! A client for server-sent events that does not give up: when the stream ends it
//! waits, longer each time and at a time of its own, asks again, and for what
//! came after the last event it has seen.

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

/// The first pause before another attempt, until the server asks for another one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The longest, unless the server asks for more.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What a server may ask for.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3600));

/// Where a source stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// It asks for the stream.
    Connecting,
    /// Events come.
    Open,
    /// It waits for so long before it asks again.
    BackingOff(Duration),
    /// The server said that there is nothing more to come.
    Ended,
}

impl State {
    /// The names of all.
    pub const NAMES: [&str; 4] = ["connecting", "open", "backing_off", "ended"];

    /// Its name, for logs and labels.
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

/// What came of asking for the stream.
#[derive(Debug)]
pub enum Answer<B> {
    /// The stream.
    Stream(B),
    /// There is none, with this status: 204 means that there never will be.
    Status(StatusCode),
}

/// What the server has said, which is kept over connections.
#[derive(Debug, Default)]
struct Said {
    last_event: Option<String>,
    retry: Option<Duration>,
}

/// A source that can be looked at from elsewhere while it runs.
pub struct Source {
    name: String,
    limits: Limits,
    state: watch::Sender<State>,
    said: Mutex<Said>,
    opened: AtomicU64,
}

impl Source {
    /// One that has not begun.
    #[must_use]
    pub fn new(name: String, limits: Limits) -> Self {
        Self {
            name,
            limits,
            state: watch::Sender::new(State::Connecting),
            said: Mutex::default(),
            opened: AtomicU64::new(0),
        }
    }

    /// Where it stands, now and as it changes.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// How often a stream began.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// Asks for the stream with `connect`, which is given the id of the last
    /// event, and hands what comes to `take`, until the server says that there is
    /// nothing more to come.
    ///
    /// # Cancel safety
    ///
    /// Safe: run again it goes on after the last event that was taken.
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
            let last = self.said().last_event.clone();
            let fault: BoxError = match connect(last).await {
                Ok(Answer::Status(StatusCode::NO_CONTENT)) => {
                    info!(feed, "the feed has ended: there is nothing more to come");
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
                        // It worked, so the next pause is a first one again.
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

    /// Once for each time that it is lost, at a level that is seen.
    fn complain(&self, fault: &(dyn Error + 'static), pause: Duration, is_first: bool) {
        let feed = self.name.as_str();
        let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        if is_first {
            warn!(
                feed,
                error = fault,
                pause_ms,
                "the feed was lost: it is asked for again"
            );
        } else {
            debug!(feed, error = fault, pause_ms, "the feed is still lost");
        }
    }

    /// Reads to the end. Whether anything came, and why that was the end.
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
                    self.note(&event);
                    take(event);
                }
                Err(error) => return (any, error.into()),
            }
        }
        (any, "the server ended the stream".into())
    }

    fn note(&self, event: &Sse) {
        let mut said = self.said();
        if let Some(id) = &event.id {
            said.last_event = (!id.is_empty()).then(|| id.clone());
        }
        if let Some(retry) = event.retry {
            let (least, most) = RETRY;
            said.retry = Some(Duration::from_millis(retry).clamp(least, most));
        }
    }

    fn first_pause(&self) -> Duration {
        self.said().retry.unwrap_or(FIRST_PAUSE)
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Each is twice the one before, and somewhat more by chance.
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

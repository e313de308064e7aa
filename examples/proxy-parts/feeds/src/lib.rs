//! Feeds: streams of server-sent events, each of which is read once and passed on to many clients.
//!
//! A [`Feed`] owns the task that reads the stream. The task requests the stream with a closure,
//! requests it again when it ends, and publishes its events. A client that reconnects gets the
//! events it missed. A client that falls behind is disconnected.
//!
//! ```
//! use std::num::NonZeroUsize;
//! use std::time::Duration;
//!
//! use http_body_util::{BodyExt, Full};
//! use hyper::StatusCode;
//! use lifecycle_proxy_feeds::reader::Limits;
//! use lifecycle_proxy_feeds::source::Answer;
//! use lifecycle_proxy_feeds::{Feed, Settings};
//! use lifecycle_runtime::{GracefulShutdown, ShutdownState};
//!
//! #[derive(GracefulShutdown)]
//! struct Server {
//!     #[shutdown]
//!     feed: Feed,
//!     #[shutdown(state)]
//!     state: ShutdownState,
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let settings = Settings {
//!     name: "news".into(),
//!     queue: NonZeroUsize::new(256).expect("not 0"),
//!     replay: 128,
//!     limits: Limits { longest: 1 << 18, idle: Duration::from_secs(300) },
//!     heartbeat: Duration::from_secs(15),
//! };
//! // A real closure sends a request, with `last` as its `Last-Event-ID`.
//! let ask = |last: Option<String>| async move {
//!     Ok(match last.as_deref() {
//!         None => Answer::Stream(Full::from("id: 1\ndata: hello\n\n")),
//!         Some(_) => Answer::Status(StatusCode::NO_CONTENT),
//!     })
//! };
//! let mut server = Server {
//!     feed: Feed::start(settings, ask),
//!     state: ShutdownState::new(),
//! };
//! let client = server.feed.client();
//! let listener = client.listen(None).expect("it has not ended");
//! // The comment at the start tells the client that the stream has begun.
//! let all = listener.collect().await?.to_bytes();
//! assert!(all.starts_with(b":\n\n"));
//! assert!(String::from_utf8(all.to_vec())?.contains("data: hello\n"));
//! assert!(client.listen(None).is_none(), "status 204 ended it for good");
//! assert!(server.shutdown().await.is_clean());
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod broadcast;
pub mod events;
pub mod listener;
pub mod reader;
pub mod source;

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Body;
use hyper::header::HeaderName;
use lifecycle_runtime::{BoxError, GracefulShutdown};
use sse_stream::Sse;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use broadcast::{Broadcast, Event};
use listener::Listener;
use reader::Limits;
use source::{Answer, Source, State};

/// The header field with the id of the last event that a client has seen.
pub const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The settings of a feed.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name of the feed in logs.
    pub name: String,
    /// The number of events that may wait for a client. A client that falls further behind is
    /// disconnected.
    pub queue: NonZeroUsize,
    /// The number of past events that are kept for clients that reconnect.
    pub replay: usize,
    /// The limits of the stream that the feed reads.
    pub limits: Limits,
    /// The longest silence in a stream to a client, before the feed sends a comment.
    pub heartbeat: Duration,
}

/// The owner of a feed, with the task that reads its stream.
#[derive(Debug, GracefulShutdown)]
#[shutdown(part, strict, timeout = "500ms")]
pub struct Feed {
    #[shutdown(priority = 0, timeout = "500ms")]
    reader: AbortOnDropHandle<()>,
    #[shutdown(skip)]
    client: FeedClient,
}

/// A client of a feed. Clones are cheap. Dropping a clone changes nothing in the feed.
#[derive(Clone)]
pub struct FeedClient(Arc<Inner>);

struct Inner {
    name: String,
    source: Source,
    broadcast: Arc<Broadcast>,
    heartbeat: Duration,
}

/// The state and the counters of a feed.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    /// The state of the source, which reads the stream.
    pub state: State,
    /// The number of streams that the source has opened.
    pub opened: u64,
    /// The numbers of the broadcast to the clients.
    pub broadcast: broadcast::Counts,
}

impl Feed {
    /// Starts a task that reads the stream and reconnects. The task calls `ask` to request the
    /// stream, with the id of the last event, if that event had an id.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[must_use]
    pub fn start<B, F>(
        settings: Settings,
        ask: impl FnMut(Option<String>) -> F + Send + 'static,
    ) -> Self
    where
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
        F: Future<Output = Result<Answer<B>, BoxError>> + Send + 'static,
    {
        let Settings {
            name,
            queue,
            replay,
            limits,
            heartbeat,
        } = settings;
        let client = FeedClient(Arc::new(Inner {
            source: Source::new(name.clone(), limits),
            name,
            broadcast: Arc::new(Broadcast::new(queue, replay)),
            heartbeat,
        }));
        let FeedClient(inner) = client.clone();
        let reading = async move {
            let broadcast = &inner.broadcast;
            let publish = |event| publish(broadcast, event);
            inner.source.run(ask, publish).await;
            broadcast.end();
        };
        Self {
            reader: AbortOnDropHandle::new(tokio::spawn(reading)),
            client,
        }
    }

    /// Returns a client of the feed.
    #[must_use]
    pub fn client(&self) -> FeedClient {
        self.client.clone()
    }
}

impl FeedClient {
    /// Returns a stream of the events after the event with the id `last`. Returns `None` once the
    /// feed has ended.
    #[must_use]
    pub fn listen(&self, last: Option<&str>) -> Option<Listener> {
        let events = self.0.broadcast.subscribe(last)?;
        Some(Listener::new(events, self.0.heartbeat))
    }

    /// Returns the state of the source.
    #[must_use]
    pub fn state(&self) -> State {
        *self.0.source.state().borrow()
    }

    /// Returns the current numbers of the feed.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            state: self.state(),
            opened: self.0.source.opened(),
            broadcast: self.0.broadcast.counts(),
        }
    }
}

/// Publishes an event, without its `retry`: the upstream means that for the feed, not for the
/// feed's clients.
fn publish(broadcast: &Broadcast, block: Sse) {
    let block = Sse {
        retry: None,
        ..block
    };
    if block.data.is_none() && block.id.is_none() {
        return;
    }
    let id = block.id.clone();
    match block.encode() {
        Ok(bytes) => broadcast.publish(Event { id, bytes }),
        Err(error) => debug!(%error, "encoding an event failed"),
    }
}

impl fmt::Debug for FeedClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.source.fmt(f)
    }
}

impl fmt::Display for FeedClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.name)
    }
}

#[cfg(test)]
mod tests;

//! Feeds: the proxy reads a stream of server-sent events once, and passes it on to all clients of a
//! route.

pub mod broadcast;
pub mod listener;
pub mod reader;
pub mod source;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{ACCEPT, CACHE_CONTROL, HeaderName, HeaderValue};
use hyper::http::uri::{Scheme, Uri};
use hyper::{Request, StatusCode, Version};
use lifecycle_runtime::{BoxError, GracefulShutdown};
use sse_stream::Sse;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use crate::config::{self, FeedUrl, Timeouts};
use crate::inbound::body::Upload;
use crate::message::response;
use crate::streams::events;
use crate::upstream::Client;
use crate::upstream::body::ResponseBody;
use crate::upstream::idle::IdleConnections;
use broadcast::{Broadcast, Event};
use listener::Listener;
use reader::Limits;
use source::{Answer, Source, State};

/// The header field with the id of the last event that a client has seen.
pub const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The longest interval that [`heartbeat`] returns.
const LONGEST_HEARTBEAT: Duration = Duration::from_secs(15);

/// Returns the interval of comments in a quiet stream. They keep the client's connection from
/// expiring.
#[must_use]
pub fn heartbeat(timeouts: &Timeouts) -> Duration {
    (timeouts.idle.duration() / 2).min(LONGEST_HEARTBEAT)
}

/// The owner of a feed and of its one upstream connection.
#[derive(Debug, GracefulShutdown)]
#[shutdown(part, strict, timeout = "500ms")]
pub struct Feed {
    #[shutdown(priority = 0, timeout = "500ms")]
    reader: AbortOnDropHandle<()>,
    #[shutdown(skip)]
    client: FeedClient,
}

/// A client of a feed. Clones are cheap; dropping one changes nothing.
#[derive(Clone)]
pub struct FeedClient(Arc<Inner>);

struct Inner {
    url: FeedUrl,
    idle: Arc<IdleConnections>,
    source: Source,
    broadcast: Arc<Broadcast>,
    heartbeat: Duration,
}

/// Numbers of a feed.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    /// The state of the source.
    pub state: State,
    /// The number of streams that the source has opened.
    pub opened: u64,
    /// The numbers of the broadcast.
    pub broadcast: broadcast::Counts,
}

impl Feed {
    /// Starts to read the stream.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[must_use]
    pub fn start(config: &config::Feed, timeouts: &Timeouts, client: Client) -> Self {
        let limits = Limits {
            longest: config.max_event.get(),
            idle: config.idle.duration(),
        };
        let feed = FeedClient(Arc::new(Inner {
            url: config.url.clone(),
            idle: Arc::default(),
            source: Source::new(config.url.to_string(), limits),
            broadcast: Arc::new(Broadcast::new(config.queue, config.replay)),
            heartbeat: heartbeat(timeouts),
        }));
        let reading = feed.clone();
        let limit = timeouts.response.duration();
        Self {
            reader: AbortOnDropHandle::new(tokio::spawn(async move {
                reading.read_stream(&client, limit).await
            })),
            client: feed,
        }
    }

    /// Returns a client of the feed.
    #[must_use]
    pub fn client(&self) -> FeedClient {
        self.client.clone()
    }
}

impl FeedClient {
    /// Returns a stream of the events after the one with the id `last`. Returns `None` once the
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

    /// Returns the current numbers.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            state: self.state(),
            opened: self.0.source.opened(),
            broadcast: self.0.broadcast.counts(),
        }
    }

    async fn read_stream(&self, client: &Client, limit: Duration) {
        let Inner {
            url,
            idle,
            source,
            broadcast,
            ..
        } = &*self.0;
        let ask = |last| async move {
            let due = Instant::now() + limit;
            ask(url, (client, idle), last, due).await
        };
        source.run(ask, |event| publish(broadcast, event)).await;
        broadcast.end();
    }
}

async fn ask(
    url: &FeedUrl,
    (client, idle): (&Client, &Arc<IdleConnections>),
    last: Option<String>,
    due: Instant,
) -> Result<Answer<ResponseBody>, BoxError> {
    let uri = Uri::builder()
        .scheme(Scheme::HTTP)
        .authority(url.upstream().authority().clone())
        .path_and_query(url.path().clone())
        .build()?;
    let mut request = Request::get(uri)
        .header(ACCEPT, "text/event-stream")
        .header(CACHE_CONTROL, "no-store");
    if url.upstream().is_http2() {
        request = request.version(Version::HTTP_2);
    }
    // An id that no header field can hold is left out.
    if let Some(Ok(last)) = last.map(|last| HeaderValue::from_bytes(last.as_bytes())) {
        request = request.header(LAST_EVENT_ID, last);
    }
    let request = request.body(Upload::empty())?;
    let response = client
        .request(url.upstream(), idle, request, || due)
        .await?;
    response::check_framing(&response).map_err(|fault| fault.to_string())?;
    match response.status() {
        StatusCode::OK if events::is_kind(response.headers()) => {
            Ok(Answer::Stream(response.into_body()))
        }
        StatusCode::OK => Err("the answer is not an event stream".into()),
        status => Ok(Answer::Status(status)),
    }
}

/// Publishes an event, without the upstream's `retry`, which is meant for the proxy.
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
        self.0.url.fmt(f)
    }
}

#[cfg(test)]
mod tests;

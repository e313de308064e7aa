//! Feeds: a stream of server-sent events that the proxy listens to once, and hands
//! on to all clients of a route.

pub mod hub;
pub mod listener;
pub mod reader;
pub mod source;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{ACCEPT, CACHE_CONTROL, HeaderName, HeaderValue};
use hyper::http::uri::{Scheme, Uri};
use hyper::{Request, StatusCode, Version};
use lifecycle_runtime::{BoxError, GracefulShutdown};
use sse_stream::Sse;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use crate::config::{self, FeedUrl, Timeouts};
use crate::inbound::body::Upload;
use crate::message::response;
use crate::streams::events;
use crate::upstream::Client;
use hub::{Event, Hub};
use listener::Listener;
use reader::Limits;
use source::{Answer, Source, State};

/// The id of the last event that whoever asks has seen.
pub const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The longest [`beat`].
const LONGEST_BEAT: Duration = Duration::from_secs(15);

/// How often a client is shown that a quiet stream is still there, so that its
/// connection does not expire.
#[must_use]
pub fn beat(timeouts: &Timeouts) -> Duration {
    (timeouts.idle.duration() / 2).min(LONGEST_BEAT)
}

/// The owner of a feed: of the one connection that its events come by.
#[derive(Debug, GracefulShutdown)]
#[shutdown(part, strict, timeout = "500ms")]
pub struct Feed {
    #[shutdown(priority = 0, timeout = "500ms")]
    listens: AbortOnDropHandle<()>,
    #[shutdown(skip)]
    client: FeedClient,
}

/// Uses a feed. A cheap clone: dropping one changes nothing.
#[derive(Clone)]
pub struct FeedClient(Arc<Inner>);

struct Inner {
    url: FeedUrl,
    source: Source,
    hub: Arc<Hub>,
    beat: Duration,
}

/// Numbers about a feed.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    /// Where its source stands.
    pub state: State,
    /// How often a stream of the source began.
    pub opened: u64,
    /// What was handed on, and to whom.
    pub hub: hub::Counts,
}

impl Feed {
    /// Begins to listen.
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
            source: Source::new(config.url.to_string(), limits),
            hub: Arc::new(Hub::new(config.queue, config.replay)),
            beat: beat(timeouts),
        }));
        let listening = feed.clone();
        let limit = timeouts.response.duration();
        Self {
            listens: AbortOnDropHandle::new(tokio::spawn(async move {
                listening.listen_to(&client, limit).await
            })),
            client: feed,
        }
    }

    /// Who uses it.
    #[must_use]
    pub fn client(&self) -> FeedClient {
        self.client.clone()
    }
}

impl FeedClient {
    /// A stream of its events, for a client that has seen all up to the one that
    /// `last` is the id of. None if there is nothing more to come.
    #[must_use]
    pub fn listen(&self, last: Option<&str>) -> Option<Listener> {
        let events = self.0.hub.subscribe(last)?;
        Some(Listener::new(events, self.0.beat))
    }

    /// Where its source stands.
    #[must_use]
    pub fn state(&self) -> State {
        *self.0.source.state().borrow()
    }

    /// The numbers now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            state: self.state(),
            opened: self.0.source.opened(),
            hub: self.0.hub.counts(),
        }
    }

    async fn listen_to(&self, client: &Client, limit: Duration) {
        let Inner {
            url, source, hub, ..
        } = &*self.0;
        let ask = |last| async move {
            let asked = timeout(limit, ask(url, client, last)).await;
            asked.map_err(|_| "the server did not answer in time")?
        };
        source.run(ask, |event| publish(hub, event)).await;
        hub.end();
    }
}

async fn ask(
    url: &FeedUrl,
    client: &Client,
    last: Option<String>,
) -> Result<Answer<Incoming>, BoxError> {
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
    // One that no field can hold is not sent.
    if let Some(Ok(last)) = last.map(|last| HeaderValue::from_bytes(last.as_bytes())) {
        request = request.header(LAST_EVENT_ID, last);
    }
    let request = request.body(Upload::empty())?;
    let response = client.request(url.upstream(), request).await?;
    response::check_framing(&response).map_err(|fault| fault.to_string())?;
    match response.status() {
        StatusCode::OK if events::is_kind(response.headers()) => {
            Ok(Answer::Stream(response.into_body()))
        }
        StatusCode::OK => Err("the answer is no stream of events".into()),
        status => Ok(Answer::Status(status)),
    }
}

/// Hands a block on. What it says of when to come again was for this proxy.
fn publish(hub: &Hub, block: Sse) {
    let block = Sse {
        retry: None,
        ..block
    };
    if block.data.is_none() && block.id.is_none() {
        return;
    }
    let id = block.id.clone();
    match block.encode() {
        Ok(bytes) => hub.publish(Event { id, bytes }),
        Err(error) => debug!(%error, "an event could not be handed on"),
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

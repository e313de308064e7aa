//! Feeds of upstreams: requests to an upstream for the stream that a feed reads.

use std::sync::Arc;

use hyper::header::{ACCEPT, CACHE_CONTROL, HeaderValue};
use hyper::http::uri::{Scheme, Uri};
use hyper::{Request, StatusCode, Version};
use lifecycle_proxy_feeds::reader::Limits;
use lifecycle_proxy_feeds::source::Answer;
use lifecycle_proxy_feeds::{Feed, LAST_EVENT_ID, Settings, events};
use lifecycle_runtime::BoxError;
use tokio::time::Instant;

use crate::config::{self, FeedUrl, Timeouts};
use crate::inbound::body::Upload;
use crate::message::response;
use crate::upstream::Client;
use crate::upstream::body::ResponseBody;
use crate::upstream::idle::IdleConnections;

/// Starts to read a stream of events from an upstream, for all clients of a route.
///
/// # Panics
///
/// Outside a tokio runtime.
#[must_use]
pub fn start(config: &config::Feed, timeouts: &Timeouts, client: Client) -> Feed {
    let settings = Settings {
        name: config.url.to_string(),
        queue: config.queue,
        replay: config.replay,
        limits: Limits {
            longest: config.max_event.get(),
            idle: config.idle.duration(),
        },
        heartbeat: timeouts.heartbeat(),
    };
    let limit = timeouts.response.duration();
    let asked = Arc::new((config.url.clone(), client, Arc::default()));
    Feed::start(settings, move |last| {
        let (asked, due) = (asked.clone(), Instant::now() + limit);
        async move {
            let (url, client, idle) = &*asked;
            ask(url, (client, idle), last, due).await
        }
    })
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
    // Sends no `Last-Event-ID` if the id has characters that a header field cannot have.
    if let Some(Ok(last)) = last.map(|last| HeaderValue::from_bytes(last.as_bytes())) {
        request = request.header(LAST_EVENT_ID, last);
    }
    let mut request = request.body(Upload::empty())?;
    let to = (url.upstream(), idle);
    let response = client
        .request(to, &mut request, Instant::now(), || due)
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

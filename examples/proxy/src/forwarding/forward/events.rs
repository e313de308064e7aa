//! Responses that are streams of server-sent events.

use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use lifecycle_proxy_feeds::listener::Listener;
use lifecycle_proxy_feeds::{FeedClient, LAST_EVENT_ID};

use super::Passed;
use crate::forwarding::content::Content;
use crate::inbound::body::Upload;
use crate::message::fault::Fault;

/// Returns the response to a client that listens to a feed: a stream of events, or status 204 once
/// the feed has ended for good.
pub(super) fn listen(request: &Request<Upload>, feed: &FeedClient) -> Result<Passed, Fault> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return Err(Fault::GetOnly);
    }
    // Status 204 tells a client that the feed has ended for good, so that the client does not
    // reconnect.
    let events = feed.listen(last_event(request)).map(stream);
    Ok(events.unwrap_or_else(|| empty(StatusCode::NO_CONTENT)))
}

/// Returns the id of the last event that the client has seen.
pub(super) fn last_event(request: &Request<Upload>) -> Option<&str> {
    let last = request.headers().get(LAST_EVENT_ID)?;
    std::str::from_utf8(last.as_bytes()).ok()
}

pub(super) fn stream(events: Listener) -> Passed {
    let mut response = Response::new(Content::Events(events));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

pub(super) fn empty(status: StatusCode) -> Passed {
    let mut response = Response::new(Content::empty());
    *response.status_mut() = status;
    response
}

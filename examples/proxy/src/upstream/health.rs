//! Asks upstreams whether they are well.

use std::sync::Arc;

use hyper::header::{HOST, HeaderValue};
use hyper::http::uri::Scheme;
use hyper::{Request, Uri, Version};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::config::Health;
use crate::inbound::body::Upload;
use crate::upstream::Client;
use crate::upstream::member::Member;

/// Asks `member` again and again, for ever. An answer that takes longer than the
/// pause between two questions is none.
pub async fn watch(member: Arc<Member>, health: Health, client: Client) {
    let pause = health.interval.duration();
    let mut ticks = interval(pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let answer = match question(&member, &health) {
            Some(question) => timeout(pause, client.request(&member.upstream, question)).await,
            None => return,
        };
        let healthy = matches!(answer, Ok(Ok(response)) if response.status().as_u16() < 400);
        member.checked(healthy);
    }
}

fn question(member: &Member, health: &Health) -> Option<Request<Upload>> {
    let authority = member.upstream.authority();
    let uri = Uri::builder()
        .scheme(Scheme::HTTP)
        .authority(authority.clone())
        .path_and_query(health.path.as_str())
        .build()
        .ok()?;
    let mut request = Request::new(Upload::empty());
    *request.uri_mut() = uri;
    if member.upstream.is_http2() {
        *request.version_mut() = Version::HTTP_2;
    } else {
        let host = HeaderValue::try_from(authority.as_str()).ok()?;
        request.headers_mut().insert(HOST, host);
    }
    Some(request)
}

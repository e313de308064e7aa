//! Health checks of upstreams.

use std::sync::Arc;

use hyper::Request;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::config::Health;
use crate::inbound::body::Upload;
use crate::upstream::Client;
use crate::upstream::member::Member;

/// Checks `member` regularly, without an end. An answer counts as a failure if it takes longer than
/// the pause between two checks.
pub async fn watch(member: Arc<Member>, health: Health, client: Client) {
    let pause = health.interval.duration();
    let mut ticks = interval(pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let answer = match question(&health) {
            Some(mut question) => {
                let now = Instant::now();
                let to = (&member.upstream, &member.idle);
                client.request(to, &mut question, now, || now + pause).await
            }
            None => return,
        };
        let healthy = matches!(answer, Ok(response) if response.status().as_u16() < 400);
        member.checked(healthy);
    }
}

fn question(health: &Health) -> Option<Request<Upload>> {
    Request::get(health.path.as_str())
        .body(Upload::empty())
        .ok()
}

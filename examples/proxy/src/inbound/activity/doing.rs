//! What goes on on a connection, for people who look.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request};

use super::{ANSWER, Activity, EXCHANGE, HEAD, MULTIPLEXED, UPGRADED, UPSTREAM};

/// The longest path that is shown whole.
const SHOWN: usize = 120;

/// The last request of a connection.
#[derive(Debug, Default)]
pub(super) struct Asked(Mutex<Last>);

#[derive(Debug, Default)]
struct Last {
    /// When it was read, in milliseconds of the connection.
    at: u64,
    /// None before the first, and once one over HTTP/1.1 is over: it holds on to
    /// the buffer it was read into.
    line: Option<(Method, Option<PathAndQuery>)>,
}

impl Asked {
    pub(super) fn begins<B>(&self, request: &Request<B>, at: u64) {
        let target = request.uri().path_and_query().cloned();
        let line = Some((request.method().clone(), target));
        *self.last() = Last { at, line };
    }

    pub(super) fn is_over(&self) {
        self.last().line = None;
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `GET /slow, answering for 1.5 s`
impl fmt::Display for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asked = self.asked.last();
        if let Some((method, target)) = &asked.line {
            // Without the query, which may hold what nobody else should see.
            let path = target.as_ref().map_or("*", PathAndQuery::path);
            match path.char_indices().nth(SHOWN) {
                Some((end, _)) => write!(f, "{method} {}…, ", &path[..end])?,
                None => write!(f, "{method} {path}, ")?,
            }
        }
        let owes = self.owed.load(Ordering::Relaxed) > 0;
        let asked_at = self.opened + Duration::from_millis(asked.at);
        let (stage, since) = match self.phase.load(Ordering::Relaxed) {
            HEAD => ("reading a head", self.at(&self.head)),
            EXCHANGE => ("reading the body", asked_at),
            UPSTREAM => ("waiting for the upstream", asked_at),
            MULTIPLEXED if owes => ("waiting for the upstream", asked_at),
            ANSWER => ("answering", asked_at),
            MULTIPLEXED => ("silent", self.last_byte()),
            UPGRADED => ("WebSocket, silent", self.last_byte()),
            _ => ("idle", self.last_byte()),
        };
        let time = since.elapsed().as_secs_f32();
        write!(f, "{stage} for {time:.1} s")
    }
}

#[cfg(test)]
mod tests {
    use super::super::Limits;
    use super::*;

    const LIMITS: Limits = Limits {
        header_read_timeout: Duration::from_secs(2),
        idle: Duration::from_secs(10),
    };

    #[tokio::test(start_paused = true)]
    async fn it_says_what_goes_on_and_for_how_long_but_not_the_query() {
        let activity = Activity::new(LIMITS);
        let after = |seconds| tokio::time::advance(Duration::from_secs(seconds));
        after(1).await;
        assert_eq!(activity.to_string(), "idle for 1.0 s");
        activity.bytes_arrived();
        after(2).await;
        assert_eq!(activity.to_string(), "reading a head for 2.0 s");
        activity.bytes_arrived();
        let request = Request::post("/slow?token=secret").body(()).unwrap();
        activity.asked(&request);
        activity.exchange_begins();
        after(3).await;
        assert_eq!(
            activity.to_string(),
            "POST /slow, reading the body for 3.0 s"
        );
        activity.request_ended();
        assert_eq!(
            activity.to_string(),
            "POST /slow, waiting for the upstream for 3.0 s"
        );
        activity.answered();
        assert_eq!(activity.to_string(), "POST /slow, answering for 3.0 s");
        activity.exchange_ended();
        assert_eq!(activity.to_string(), "idle for 0.0 s");
        activity.upgraded();
        after(4).await;
        assert_eq!(activity.to_string(), "WebSocket, silent for 4.0 s");
    }

    #[tokio::test(start_paused = true)]
    async fn in_http2_it_says_the_last_request_shortened_where_it_is_long() {
        let activity = Activity::new(LIMITS);
        let long = format!("/{}é", "é".repeat(500));
        let request = Request::get(long.replace('é', "%C3%A9")).body(()).unwrap();
        activity.asked(&request);
        activity.stream_begins();
        let text = activity.to_string();
        assert!(text.starts_with("GET /%C3%A9"), "{text}");
        assert!(
            text.ends_with("…, waiting for the upstream for 0.0 s"),
            "{text}"
        );
        assert!(text.len() < 180, "{text}");
        activity.stream_answered();
        assert!(activity.to_string().ends_with("…, silent for 0.0 s"));
    }
}

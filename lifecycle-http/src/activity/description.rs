//! The description of a connection: its requests in flight, and what they wait for.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use super::Activity;

impl Activity {
    /// Describes the requests in flight and what they wait for, such as
    /// `GET /slow, waiting for the upstream for 1.5 s`, where `service` is "the upstream".
    pub(crate) fn doing(&self, service: &str) -> String {
        let seen = self.seen();
        let (stage, since) = match seen.head {
            Some(head) if seen.exchanges == 0 => ("reading a head", head),
            _ if seen.tunnel => ("upgraded, silent", seen.last),
            _ if seen.awaits_service => ("waiting for ", self.requests.newest()),
            _ if self.is_h2() => ("silent", seen.last),
            _ if seen.exchanges == 0 => ("idle", seen.last),
            _ if self.unanswered.load(Ordering::Relaxed) > 0 => {
                ("reading the body", self.requests.newest())
            }
            _ => ("answering", self.requests.newest()),
        };
        let service = if seen.awaits_service { service } else { "" };
        let mut text = self.names();
        let lead = if text.is_empty() { "" } else { ", " };
        let time = seen.now.saturating_sub(since).as_secs_f32();
        // The result is ignored, because writing to a `String` cannot fail.
        let _ = write!(text, "{lead}{stage}{service} for {time:.1} s");
        text
    }

    /// Returns the names of the requests in flight, such as `GET /slow, POST /upload and 3 more`.
    pub(crate) fn names(&self) -> String {
        if self.is_in_exchange() || self.is_tunnel() {
            self.requests.names()
        } else {
            String::new()
        }
    }
}

//! The description of a connection: its requests in flight, and what they wait for.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::Uri;

use super::Activity;

/// The number of requests that the description of a connection names. It gives only the number of the requests beyond
/// these.
const NAMED: usize = 2;

/// The length of the longest path that the description of a connection shows whole, in characters.
const SHOWN: usize = 120;

/// Returns a request's path as the description shows it. The query is left out, because it may hold secrets. The path is
/// copied, because a part of the URI would keep the buffer that the request's head was read into.
pub(super) fn shown(uri: &Uri) -> Box<str> {
    let path = uri.path();
    // No path has more characters than bytes, and most have fewer bytes than this.
    let cut = path.len() > SHOWN;
    match cut.then(|| path.char_indices().nth(SHOWN)).flatten() {
        Some((end, _)) => format!("{}…", &path[..end]).into(),
        None => path.into(),
    }
}

impl Activity {
    /// Describes the requests in flight and what they wait for, such as
    /// `GET /slow, waiting for the upstream for 1.5 s`, where `service` is "the upstream".
    pub(crate) fn doing(&self, service: &str) -> String {
        let seen = self.seen();
        let (stage, since) = match seen.head {
            Some(head) if seen.exchanges == 0 => ("reading a head", head),
            _ if seen.tunnel => ("upgraded, silent", seen.last),
            _ if seen.awaits_service => ("waiting for ", self.asked()),
            _ if self.is_h2() => ("silent", seen.last),
            _ if seen.exchanges == 0 => ("idle", seen.last),
            _ if self.unanswered.load(Ordering::Relaxed) > 0 => ("reading the body", self.asked()),
            _ => ("answering", self.asked()),
        };
        let service = if seen.awaits_service { service } else { "" };
        let mut text = self.names();
        let lead = if text.is_empty() { "" } else { ", " };
        let time = seen.now.saturating_sub(since).as_secs_f32();
        // The result is ignored, because writing to a `String` cannot fail.
        let _ = write!(text, "{lead}{stage}{service} for {time:.1} s");
        text
    }

    /// Returns the time at which the head of the newest request in flight was complete.
    fn asked(&self) -> Duration {
        let requests = self.requests();
        requests.last().map_or(Duration::ZERO, |request| request.at)
    }

    /// Returns the names of the requests in flight, such as `GET /slow, POST /upload and 3 more`.
    pub(crate) fn names(&self) -> String {
        let requests = self.requests();
        let mut text = String::new();
        for request in requests.iter().take(NAMED) {
            let lead = if text.is_empty() { "" } else { ", " };
            // The result is ignored, because writing to a `String` cannot fail.
            let _ = write!(text, "{lead}{} {}", request.method, request.path);
        }
        if requests.len() > NAMED {
            let _ = write!(text, " and {} more", requests.len() - NAMED);
        }
        text
    }
}

//! The list of a connection's requests, from which its description names those in flight.

use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{Method, Uri};

/// The number of requests that the description of a connection names. It gives only the number of the requests beyond
/// these.
const NAMED: usize = 2;

/// The length of the longest path that the description of a connection shows whole, in characters.
const SHOWN: usize = 120;

/// The requests of a connection that have begun and were not removed.
#[derive(Debug, Default)]
pub(super) struct Requests(Mutex<Vec<Request>>);

#[derive(Debug)]
struct Request {
    method: Method,
    path: String,
    /// The number of the request on its connection.
    number: usize,
    /// The time at which the request's head was complete, since the connection was opened.
    at: Duration,
}

impl Requests {
    /// Adds a request whose head was complete at `at`, and returns its number.
    pub(super) fn add(&self, method: &Method, uri: &Uri, at: Duration) -> usize {
        let mut requests = self.lock();
        let last = requests.last().map(|last| last.number);
        let number = last.map_or(0, |last| last.wrapping_add(1));
        let mut path = String::new();
        show(uri, &mut path);
        requests.push(Request {
            method: method.clone(),
            path,
            number,
            at,
        });
        number
    }

    /// Adds a request in the place of the one before, which has ended, and uses its memory again.
    pub(super) fn replace(&self, method: &Method, uri: &Uri, at: Duration) -> usize {
        {
            let mut requests = self.lock();
            if let Some(request) = requests.last_mut() {
                request.method.clone_from(method);
                request.path.clear();
                show(uri, &mut request.path);
                request.number = request.number.wrapping_add(1);
                request.at = at;
                return request.number;
            }
        }
        self.add(method, uri, at)
    }

    pub(super) fn remove(&self, number: usize) {
        let mut requests = self.lock();
        if let Some(at) = requests.iter().position(|request| request.number == number) {
            requests.remove(at);
        }
    }

    /// Returns the time at which the head of the newest request was complete.
    pub(super) fn newest(&self) -> Duration {
        let requests = self.lock();
        requests.last().map_or(Duration::ZERO, |request| request.at)
    }

    /// Returns the names of the requests, such as `GET /slow, POST /upload and 3 more`.
    pub(super) fn names(&self) -> String {
        let requests = self.lock();
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

    fn lock(&self) -> MutexGuard<'_, Vec<Request>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds a request's path to `text` as the description shows it. The query is left out, because it may hold secrets. The
/// path is copied, because a part of the URI would keep the buffer that the request's head was read into.
fn show(uri: &Uri, text: &mut String) {
    let path = uri.path();
    // No path has more characters than bytes, and most have fewer bytes than this.
    let cut = path.len() > SHOWN;
    match cut.then(|| path.char_indices().nth(SHOWN)).flatten() {
        Some((end, _)) => {
            text.push_str(&path[..end]);
            text.push('…');
        }
        None => text.push_str(path),
    }
}

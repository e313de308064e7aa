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
pub(super) struct Requests(Mutex<Lists>);

/// A connection uses one of the two.
#[derive(Debug, Default)]
struct Lists {
    /// The last request over HTTP/1.1. It is kept here and not in `many`, so that a request reads one cache line less.
    last: Option<Request>,
    /// The requests over HTTP/2, the oldest first.
    many: Vec<Request>,
}

#[derive(Debug)]
struct Request {
    method: Method,
    path: String,
    /// The number of the request on its connection.
    number: usize,
    /// The time at which the request's head was complete, since the connection was opened.
    at: Duration,
}

impl Lists {
    fn all(&self) -> impl Iterator<Item = &Request> {
        self.last.iter().chain(&self.many)
    }
}

impl Requests {
    /// Adds a request over HTTP/2 whose head was complete at `at`, and returns its number.
    pub(super) fn add(&self, method: &Method, uri: &Uri, at: Duration) -> usize {
        let many = &mut self.lock().many;
        let number = many.last().map_or(0, |last| last.number.wrapping_add(1));
        let mut path = String::new();
        show(uri, &mut path);
        many.push(Request {
            method: method.clone(),
            path,
            number,
            at,
        });
        number
    }

    /// Sets the request over HTTP/1.1, in the place of the one before, which has ended, and uses its memory again.
    pub(super) fn replace(&self, method: &Method, uri: &Uri, at: Duration) {
        let mut lists = self.lock();
        let last = lists.last.get_or_insert_with(|| Request {
            method: Method::default(),
            path: String::new(),
            number: 0,
            at,
        });
        last.method.clone_from(method);
        last.path.clear();
        show(uri, &mut last.path);
        last.at = at;
    }

    /// Removes a request over HTTP/2.
    pub(super) fn remove(&self, number: usize) {
        let many = &mut self.lock().many;
        if let Some(at) = many.iter().position(|request| request.number == number) {
            many.remove(at);
        }
    }

    /// Returns the time at which the head of the newest request was complete.
    pub(super) fn newest(&self) -> Duration {
        let lists = self.lock();
        lists
            .all()
            .last()
            .map_or(Duration::ZERO, |request| request.at)
    }

    /// Returns the names of the requests, such as `GET /slow, POST /upload and 3 more`.
    pub(super) fn names(&self) -> String {
        let lists = self.lock();
        let mut text = String::new();
        for request in lists.all().take(NAMED) {
            let lead = if text.is_empty() { "" } else { ", " };
            // The result is ignored, because writing to a `String` cannot fail.
            let _ = write!(text, "{lead}{} {}", request.method, request.path);
        }
        let more = lists.all().skip(NAMED).count();
        if more > 0 {
            let _ = write!(text, " and {more} more");
        }
        text
    }

    fn lock(&self) -> MutexGuard<'_, Lists> {
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

//! Interim responses (1xx) of an upstream on their way to a client (RFC 9110 §15.2).
//!
//! hyper's client tells of them, and its server has no way to send them. So they are
//! kept with the connection and written by its socket, where that is between two
//! responses: after the one before was handed over to the last byte, and before the
//! first byte of the one they precede. Over HTTP/2, where the bytes are hyper's alone,
//! they are not passed on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use futures_util::task::AtomicWaker;
use hyper::body::Bytes;
use hyper::header::{CONTENT_LENGTH, HeaderMap};
use hyper::{Request, StatusCode, Version, ext};

use crate::message::headers;

/// So many bytes of them may wait for a client; those beyond are dropped, as any may be.
const MOST: usize = 16 * 1024;

/// What waits for the client of a connection over HTTP/1.1.
#[derive(Debug, Default)]
pub struct Interim {
    heads: Mutex<Vec<u8>>,
    /// The task that writes.
    writer: AtomicWaker,
}

impl Interim {
    /// Adds a whole head.
    fn push(&self, head: &[u8]) {
        let mut heads = self.heads();
        if heads.len() + head.len() <= MOST {
            heads.extend_from_slice(head);
            drop(heads);
            self.writer.wake();
        }
    }

    /// Takes what waits. `writer` is woken when there is more.
    pub fn take(&self, writer: &Waker) -> Bytes {
        self.writer.register(writer);
        std::mem::take(&mut *self.heads()).into()
    }

    /// Drops what waits.
    pub fn clear(&self) {
        self.heads().clear();
    }

    fn heads(&self) -> MutexGuard<'_, Vec<u8>> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has the interim responses to `request` passed on, where the client takes them.
///
/// A 100 is this proxy's own to say: hyper does so when the body is wanted. A client
/// over HTTP/1.0 takes none.
pub fn pass_on<B>(request: &mut Request<B>, interim: &Arc<Interim>) {
    if request.version() != Version::HTTP_11 {
        return;
    }
    let interim = interim.clone();
    ext::on_informational(request, move |response| {
        let status = response.status();
        if status != StatusCode::CONTINUE {
            let head = head(status, response.headers().clone(), response.version());
            interim.push(&head);
        }
    });
}

fn head(status: StatusCode, mut fields: HeaderMap, version: Version) -> Vec<u8> {
    headers::for_client(&mut fields, version);
    // There is no content.
    fields.remove(CONTENT_LENGTH);
    let reason = status.canonical_reason().unwrap_or_default();
    let mut head = format!("HTTP/1.1 {} {reason}\r\n", status.as_str()).into_bytes();
    for (name, value) in &fields {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            head.extend_from_slice(part);
        }
    }
    head.extend_from_slice(b"\r\n");
    head
}

#[cfg(test)]
mod tests {
    use futures_util::task::noop_waker;

    use super::*;

    #[test]
    fn a_flood_of_them_is_bounded() {
        let interim = Interim::default();
        let head = head(StatusCode::PROCESSING, HeaderMap::new(), Version::HTTP_11);
        for _ in 0..10_000 {
            interim.push(&head);
        }
        let waiting = interim.take(&noop_waker());
        assert!(!waiting.is_empty() && waiting.len() <= MOST);
        assert_eq!(waiting.len() % head.len(), 0, "none is cut");
        assert!(interim.take(&noop_waker()).is_empty());
    }
}

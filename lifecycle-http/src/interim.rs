//! Interim responses (1xx) on their way to a client (RFC 9110 §15.2).
//!
//! hyper's server cannot send them. So they are kept with the connection, and its stream writes them between two final
//! responses: after the last byte of the earlier response, and before the first byte of the response that they precede.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

/// The most bytes of interim responses that may wait for a client. Interim responses beyond that are dropped, which
/// HTTP allows.
const MOST: usize = 16 * 1024;

/// The interim responses that wait for a client over HTTP/1.1.
#[derive(Debug, Default)]
pub(crate) struct Interim {
    /// Whether `heads` is not empty, which is rare.
    waits: AtomicBool,
    /// Boxed, so that `waits`, which every request reads, is near the other fields of the connection that requests use.
    state: Box<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    heads: Vec<u8>,
    /// The task that writes to the client.
    writer: Option<Waker>,
}

impl Interim {
    /// Adds the head of an interim response. Returns whether there was room for it.
    pub(crate) fn push(&self, status: StatusCode, fields: &HeaderMap) -> bool {
        let head = head(status, fields);
        let mut state = self.state();
        if state.heads.len() + head.len() > MOST {
            return false;
        }
        state.heads.extend_from_slice(&head);
        // The wake that follows orders this store before the load of the task that it wakes.
        self.waits.store(true, Ordering::Relaxed);
        let writer = state.writer.clone();
        drop(state);
        if let Some(writer) = writer {
            writer.wake();
        }
        true
    }

    /// Sets the task that is woken when an interim response is added.
    pub(crate) fn wakes(&self, writer: &Waker) {
        self.state().writer = Some(writer.clone());
    }

    /// Returns whether interim responses wait.
    pub(crate) fn waits(&self) -> bool {
        self.waits.load(Ordering::Relaxed)
    }

    /// Takes the interim responses that wait.
    pub(crate) fn take(&self) -> Bytes {
        let mut state = self.state();
        self.waits.store(false, Ordering::Relaxed);
        std::mem::take(&mut state.heads).into()
    }

    /// Drops the interim responses that wait.
    pub(crate) fn clear(&self) {
        if self.waits() {
            drop(self.take());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn head(status: StatusCode, fields: &HeaderMap) -> Vec<u8> {
    let reason = status.canonical_reason().unwrap_or_default();
    let mut head = format!("HTTP/1.1 {} {reason}\r\n", status.as_str()).into_bytes();
    for (name, value) in fields {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            head.extend_from_slice(part);
        }
    }
    head.extend_from_slice(b"\r\n");
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_them_is_bounded() {
        let interim = Interim::default();
        let length = head(StatusCode::PROCESSING, &HeaderMap::new()).len();
        let fit = (0..10_000)
            .filter(|_| interim.push(StatusCode::PROCESSING, &HeaderMap::new()))
            .count();
        let waiting = interim.take();
        assert!(!waiting.is_empty() && waiting.len() <= MOST);
        assert_eq!(waiting.len(), fit * length, "none is cut");
        assert!(interim.take().is_empty());
    }
}

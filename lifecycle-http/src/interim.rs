//! Interim responses (1xx) on their way to a client (RFC 9110 §15.2).
//!
//! hyper's server cannot send them. So they are kept with the connection, and its stream writes them between two final
//! responses: after the last byte of the earlier response, and before the first byte of the response that they precede.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

/// The most bytes of interim responses that may wait for a client. Interim responses beyond that are dropped, which
/// HTTP allows.
const MOST: usize = 16 * 1024;

/// The interim responses that wait for a client over HTTP/1.1.
#[derive(Debug, Default)]
pub(crate) struct Interim(Mutex<State>);

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
        let writer = state.writer.take();
        drop(state);
        if let Some(writer) = writer {
            writer.wake();
        }
        true
    }

    /// Takes the interim responses that wait. `writer` is woken when another one is added.
    pub(crate) fn take(&self, writer: &Waker) -> Bytes {
        let mut state = self.state();
        match &mut state.writer {
            Some(waiting) => waiting.clone_from(writer),
            none => *none = Some(writer.clone()),
        }
        std::mem::take(&mut state.heads).into()
    }

    /// Drops the interim responses that wait.
    pub(crate) fn clear(&self) {
        self.state().heads.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        let waiting = interim.take(Waker::noop());
        assert!(!waiting.is_empty() && waiting.len() <= MOST);
        assert_eq!(waiting.len(), fit * length, "none is cut");
        assert!(interim.take(Waker::noop()).is_empty());
    }
}

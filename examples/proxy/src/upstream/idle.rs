//! Connections to one upstream that wait for their next request.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::upstream::connection::Connection;

/// Idle connections that are kept for an upstream.
const MOST: usize = 256;

/// The idle connections of an upstream. The one that was used last is used next, so that
/// those that are not needed expire.
#[derive(Debug, Default)]
pub struct IdleConnections(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// The idle connections, in the order in which they became idle.
    connections: Vec<(Instant, Box<Connection>)>,
    /// A client keeps them, see [`IdleConnections::is_new`].
    listed: bool,
    closed: bool,
}

impl IdleConnections {
    /// Takes out a connection that has not been idle for longer than `limit`.
    pub(super) fn take(&self, limit: Duration) -> Option<Box<Connection>> {
        loop {
            let (since, mut connection) = self.inner().connections.pop()?;
            if since.elapsed() > limit {
                // The others have been idle for longer; the keeper closes them.
                return None;
            }
            connection.set_busy();
            if connection.is_usable() {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection, unless there are enough.
    pub(super) fn put(&self, connection: Box<Connection>) {
        let now = Instant::now();
        let mut inner = self.inner();
        if !inner.closed && inner.connections.len() < MOST {
            connection.set_idle();
            inner.connections.push((now, connection));
        }
    }

    /// Closes the connections that have been idle for longer than `limit`, and drops those
    /// that have ended.
    pub(super) fn sweep(&self, limit: Duration) {
        let now = Instant::now();
        self.inner().connections.retain_mut(|(since, connection)| {
            let kept = now.saturating_duration_since(*since) <= limit && connection.is_usable();
            if kept {
                connection.set_idle();
            }
            kept
        });
    }

    /// Closes all, and keeps no more.
    pub(super) fn close(&self) {
        let mut inner = self.inner();
        inner.closed = true;
        inner.connections.clear();
    }

    /// Returns whether this was not asked before.
    pub(super) fn is_new(&self) -> bool {
        !std::mem::replace(&mut self.inner().listed, true)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

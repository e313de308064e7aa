//! The idle connections of one upstream, which wait for their next request.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::upstream::connection::Connection;

/// The largest number of idle connections that are kept for an upstream.
const MOST: usize = 256;

/// The idle connections of an upstream. The connection that became idle last is used first, so that
/// surplus connections expire.
#[derive(Debug, Default)]
pub struct IdleConnections(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// The idle connections, in the order in which they became idle.
    connections: Vec<(Instant, Box<Connection>)>,
    /// Whether a client checks this list regularly, see [`IdleConnections::is_new`].
    listed: bool,
    closed: bool,
}

impl IdleConnections {
    /// Takes out a usable connection that has not been idle for longer than `limit`.
    pub(super) fn take(&self, limit: Duration) -> Option<Box<Connection>> {
        loop {
            let (since, mut connection) = self.inner().connections.pop()?;
            if since.elapsed() > limit {
                // The remaining connections have been idle for even longer. A task of the pool
                // closes them.
                return None;
            }
            connection.set_busy();
            if connection.is_usable() {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection for the next request. Closes it if the list is full or closed.
    pub(super) fn put(&self, connection: Box<Connection>) {
        let now = Instant::now();
        let mut inner = self.inner();
        if !inner.closed && inner.connections.len() < MOST {
            connection.set_idle();
            inner.connections.push((now, connection));
        }
    }

    /// Closes the connections that have been idle for longer than `limit`, and drops connections
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

    /// Closes all idle connections. From then on, connections are closed instead of kept.
    pub(super) fn close(&self) {
        let mut inner = self.inner();
        inner.closed = true;
        inner.connections.clear();
    }

    /// Returns true for the first call only. The first caller adds this list to the lists that are
    /// checked.
    pub(super) fn is_new(&self) -> bool {
        !std::mem::replace(&mut self.inner().listed, true)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

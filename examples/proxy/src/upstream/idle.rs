//! The idle connections of one upstream, which wait for their next request.

use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use thread_local::ThreadLocal;
use tokio::time::Instant;

use crate::upstream::connection::Connection;

/// The largest number of idle connections that a thread keeps for an upstream.
const MOST: usize = 256;

/// The idle connections of an upstream. The connection that became idle last is used first, so that
/// surplus connections expire.
///
/// Each thread has a list of its own, as each worker process of nginx has. So a connection is used by
/// the thread whose runtime reads its socket, and its memory is in the cache of that processor.
#[derive(Debug, Default)]
pub struct IdleConnections {
    lists: ThreadLocal<Arc<List>>,
    /// Whether a client checks these lists regularly, see [`is_new`](Self::is_new).
    checked: AtomicBool,
    closed: AtomicBool,
}

/// The idle connections of one thread, in the order in which they became idle. Aligned, so that
/// threads do not write to the same cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
struct List(Mutex<Vec<(Instant, Box<Connection>)>>);

impl IdleConnections {
    /// Takes a usable connection out of this thread's list that has not been idle for longer than `limit`. `now` is the
    /// time, which the caller knows already.
    pub(super) fn take(&self, limit: Duration, now: Instant) -> Option<Box<Connection>> {
        self.lists.get_or_default().take(limit, now)
    }

    /// Keeps a connection for the next request, in the list of its upstream. Closes it if the list is full or closed.
    pub(super) fn put(connection: Box<Connection>) {
        let now = Instant::now();
        let home = connection.home();
        // The connection, which is moved into the list, has the reference to `home`. A clone of that reference would
        // change a count that all threads share; the list's count is this thread's own.
        let list = home.lists.get_or_default().clone();
        let mut list = list.lock();
        // If `close` does not see this thread's list yet, this thread sees that the lists are closed.
        fence(Ordering::SeqCst);
        if !home.closed.load(Ordering::Relaxed) && list.len() < MOST {
            connection.set_idle();
            list.push((now, connection));
        }
    }

    /// Closes the connections that have been idle for longer than `limit`, and drops connections
    /// that have ended.
    pub(super) fn sweep(&self, limit: Duration) {
        let now = Instant::now();
        for list in &self.lists {
            list.lock().retain_mut(|(since, connection)| {
                let kept = now.saturating_duration_since(*since) <= limit && connection.is_usable();
                if kept {
                    connection.set_idle();
                }
                kept
            });
        }
    }

    /// Closes all idle connections. From then on, connections are closed instead of kept.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        for list in &self.lists {
            list.lock().clear();
        }
    }

    /// Returns true for the first call only. The first caller adds these lists to the lists that are
    /// checked.
    pub(super) fn is_new(&self) -> bool {
        !self.checked.swap(true, Ordering::Relaxed)
    }
}

impl List {
    fn take(&self, limit: Duration, now: Instant) -> Option<Box<Connection>> {
        loop {
            let (since, mut connection) = self.lock().pop()?;
            if now.saturating_duration_since(since) > limit {
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

    fn lock(&self) -> MutexGuard<'_, Vec<(Instant, Box<Connection>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn kept(home: &Arc<IdleConnections>) -> usize {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let connection = Connection::begin(stream, home.clone(), Arc::default()).await;
        IdleConnections::put(connection.unwrap());
        home.lists.iter().map(|list| list.lock().len()).sum()
    }

    #[tokio::test]
    async fn once_closed_no_connection_is_kept() {
        let home = Arc::default();
        assert_eq!(kept(&home).await, 1);
        home.close();
        assert_eq!(kept(&home).await, 0);
    }
}

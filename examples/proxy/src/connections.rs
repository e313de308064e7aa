//! All client connections of a listener: how many there may be, who they are,
//! and how they are drained.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lifecycle_runtime::{BoxError, Component, Context};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::activity::Limits;
use crate::connection::{End, Serve};
use crate::executor::Tasks;
use crate::logging::Throttle;

/// What a client above the limit is told, if it listens.
const REFUSAL: &str = "HTTP/1.1 503 Service Unavailable\r\n\
    Connection: close\r\n\
    Retry-After: 1\r\n\
    Proxy-Status: lifecycle-proxy; error=connection_limit_reached\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 47\r\n\r\n\
    503 Service Unavailable: too many connections.\n";

/// What a client is told while load is shed.
const OVERLOAD: &str = "HTTP/1.1 503 Service Unavailable\r\n\
    Connection: close\r\n\
    Retry-After: 1\r\n\
    Proxy-Status: lifecycle-proxy; error=proxy_internal_response\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 52\r\n\r\n\
    503 Service Unavailable: this proxy has much to do.\n";

/// How many stragglers are named before the rest is only counted.
const NAMED: usize = 5;

/// Client connections, each served by a task of its own.
///
/// Its cleanup tells them to close, waits, and in the reserve cuts those that
/// are left and waits for them as well. It is for one owner; share it by `Arc`.
#[derive(Debug)]
pub struct Connections {
    limit: NonZeroUsize,
    limits: Limits,
    /// Cancelled: end after the request you are in.
    close: CancellationToken,
    /// A task for each connection, and those of HTTP/2; cut, they end now.
    tasks: Tasks,
    open: Arc<Open>,
    refusals: Throttle,
}

/// Numbers about connections.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Served now.
    pub active: u64,
    /// Served at the same time, at most.
    pub peak: u64,
    /// Ever served.
    pub accepted: u64,
    /// Refused, because the limit was reached.
    pub refused: u64,
    /// Ended by a time limit.
    pub expired: u64,
    /// Cut at the end of a shutdown.
    pub cut: u64,
}

/// Who is connected, and the counts that go with it. A connection is in the
/// table exactly as long as its socket is open, so the table is the limit.
#[derive(Debug, Default)]
struct Open {
    table: Mutex<Table>,
    refused: AtomicU64,
    expired: AtomicU64,
    cut: AtomicU64,
}

#[derive(Debug, Default)]
struct Table {
    /// By number, so the oldest comes first.
    connections: BTreeMap<u64, (SocketAddr, Instant)>,
    accepted: u64,
    peak: u64,
}

/// A place in the table.
struct Slot {
    open: Arc<Open>,
    number: u64,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.open.table().connections.remove(&self.number);
    }
}

impl Connections {
    /// At most `limit` connections, each within `limits`.
    #[must_use]
    pub fn new(limit: NonZeroUsize, limits: Limits) -> Self {
        Self {
            limit,
            limits,
            close: CancellationToken::new(),
            tasks: Tasks::default(),
            open: Arc::default(),
            refusals: Throttle::default(),
        }
    }

    /// Serves a connection, or refuses it if there are too many.
    pub fn take<S: Serve>(&self, stream: TcpStream, peer: SocketAddr, server: &S) {
        if !server.admits() {
            refuse(stream, OVERLOAD);
            return;
        }
        let Some(slot) = self.open.admit(self.limit, peer) else {
            self.refuse(stream, peer);
            return;
        };
        let Ok(local) = stream.local_addr() else {
            return; // It is gone already.
        };
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%peer, %error, "TCP_NODELAY was not set");
        }
        let (server, limits) = (server.clone(), self.limits);
        let (close, tasks) = (self.close.clone(), self.tasks.clone());
        self.tasks.tracker.spawn(async move {
            // Given back after the socket was closed, also when this future is dropped.
            let slot = slot;
            let cut = tasks.cut.clone();
            let served = server.serve(stream, (peer, local), limits, close, tasks);
            match cut.run_until_cancelled(served).await {
                Some(End::Closed) => {}
                Some(End::Expired) => {
                    slot.open.expired.fetch_add(1, Ordering::Relaxed);
                    debug!(%peer, "a connection outstayed its time limit");
                }
                Some(End::Failed(error)) => debug!(%peer, %error, "a connection broke"),
                None => {
                    slot.open.cut.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }

    /// The numbers up to now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.open.counts()
    }

    /// Reads the numbers later, without keeping any connection.
    pub fn counter(&self) -> impl Fn() -> Counts + Send + Sync + 'static {
        let open = self.open.clone();
        move || open.counts()
    }

    fn refuse(&self, stream: TcpStream, peer: SocketAddr) {
        let refused = self.open.refused.fetch_add(1, Ordering::Relaxed) + 1;
        if self.refusals.allows() {
            let limit = self.limit;
            warn!(%peer, limit, refused, "connection refused: the limit is reached");
        }
        refuse(stream, REFUSAL);
    }
}

/// Best effort, without waiting: what has arrived is read first, since closing
/// over unread bytes would reset the connection.
fn refuse(stream: TcpStream, with: &str) {
    if let Ok(mut stream) = stream.into_std() {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write(with.as_bytes());
    }
}

impl Drop for Connections {
    /// The last owner is gone, and with it whoever could have awaited them.
    fn drop(&mut self) {
        self.tasks.cut.cancel();
    }
}

impl Open {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit(self: &Arc<Self>, limit: NonZeroUsize, peer: SocketAddr) -> Option<Slot> {
        let mut table = self.table();
        if table.connections.len() >= limit.get() {
            return None;
        }
        let number = table.accepted;
        table.accepted += 1;
        table.connections.insert(number, (peer, Instant::now()));
        table.peak = table.peak.max(table.connections.len() as u64);
        drop(table);
        Some(Slot {
            open: self.clone(),
            number,
        })
    }

    fn counts(&self) -> Counts {
        let table = self.table();
        Counts {
            active: table.connections.len() as u64,
            peak: table.peak,
            accepted: table.accepted,
            refused: self.refused.load(Ordering::Relaxed),
            expired: self.expired.load(Ordering::Relaxed),
            cut: self.cut.load(Ordering::Relaxed),
        }
    }

    /// `2 connections: 127.0.0.1:5000 for 3.1 s, 127.0.0.1:5001 for 0.2 s`
    fn names(&self) -> String {
        let table = self.table();
        let count = table.connections.len();
        let mut text = format!("{count} connection{}", if count == 1 { "" } else { "s" });
        let mut lead = ": ";
        for (peer, since) in table.connections.values().take(NAMED) {
            let age = since.elapsed().as_secs_f32();
            let _ = write!(text, "{lead}{peer} for {age:.1} s");
            lead = ", ";
        }
        if count > NAMED {
            let _ = write!(text, " and {} more", count - NAMED);
        }
        text
    }
}

impl Component for &Connections {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        self.close.cancel();
        self.tasks.tracker.close();
        let open = self.open.clone();
        cx.waiting_for(move || open.names());
        let count = self.counts().active;
        if count > 0 {
            info!(count, "waiting for {count} connections");
        }
        let deadline = Instant::from_std(cx.deadline());
        if timeout_at(deadline, self.tasks.tracker.wait())
            .await
            .is_ok()
        {
            return Ok(());
        }
        let left = self.open.names();
        self.tasks.cut.cancel();
        self.tasks.tracker.wait().await;
        Err(format!("cut at the deadline: {left}").into())
    }

    fn abort(&mut self) {
        self.tasks.cut.cancel();
    }

    fn release(&mut self) {
        self.tasks.cut.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    #[test]
    fn the_limit_is_exact_and_a_place_is_free_again_once_its_slot_is_dropped() {
        let open = Arc::new(Open::default());
        let limit = NonZeroUsize::new(2).unwrap();
        let first = open.admit(limit, peer(1)).unwrap();
        let second = open.admit(limit, peer(2)).unwrap();
        assert!(open.admit(limit, peer(3)).is_none());
        drop(first);
        let third = open.admit(limit, peer(4)).unwrap();
        assert!(open.admit(limit, peer(5)).is_none());
        drop((second, third));
        let counts = open.counts();
        assert_eq!((counts.active, counts.peak, counts.accepted), (0, 2, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn stragglers_are_named_oldest_first_and_the_rest_counted() {
        let open = Arc::new(Open::default());
        let limit = NonZeroUsize::new(9).unwrap();
        let oldest = open.admit(limit, peer(1)).unwrap();
        tokio::time::advance(std::time::Duration::from_millis(1500)).await;
        assert_eq!(open.names(), "1 connection: 192.0.2.1:1 for 1.5 s");
        let others: Vec<_> = (2..8).map(|port| open.admit(limit, peer(port))).collect();
        let names = open.names();
        assert!(names.starts_with("7 connections: 192.0.2.1:1 for 1.5 s, 192.0.2.1:2 for"));
        assert!(names.ends_with(" and 2 more"), "{names}");
        drop((oldest, others));
    }

    #[test]
    fn refusals_are_whole_responses() {
        for text in [REFUSAL, OVERLOAD] {
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(
                head.contains(&format!("Content-Length: {}", body.len())),
                "{text}"
            );
        }
    }
}

//! Datagrams between servers: greetings at intervals, goodbyes, and their acknowledgements.

mod datagram;
mod table;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use futures_util::future::join_all;
use lifecycle_proxy_common::Throttle;
use lifecycle_runtime::{BoxError, Component, Context};
use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Goodbye, Identity};
use crate::settings;
use datagram::{Datagram, Kind, Nonce};

pub use table::{Peer, PeerTable};

/// The pause after a socket error, so that the loop does not repeat the error at once.
const PAUSE: Duration = Duration::from_millis(100);

/// The pause before a goodbye is sent again. It doubles each time, up to `LONGEST_REPEAT`.
const FIRST_REPEAT: Duration = Duration::from_millis(50);
const LONGEST_REPEAT: Duration = Duration::from_millis(500);

/// The socket for the datagrams of peers, and the tasks that use it.
#[derive(Debug)]
pub struct Peers {
    shared: Arc<Shared>,
    goodbye: Goodbye,
    tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    id: String,
    socket: Arc<UdpSocket>,
    is_ipv6: bool,
    table: PeerTable,
    /// The goodbyes that wait for an acknowledgement.
    pending: Mutex<HashMap<(SocketAddr, Nonce), oneshot::Sender<()>>>,
    /// The token that is cancelled when the server leaves. The server then stops to greet its
    /// peers.
    leaving: CancellationToken,
    ignored: AtomicU64,
    complaints: Throttle,
}

impl Peers {
    /// Starts to receive datagrams from the peers and to greet them.
    pub(super) fn start(
        config: &settings::Peers,
        (socket, address): (Arc<UdpSocket>, SocketAddr),
        identity: &Identity,
        known: Vec<Peer>,
        limit: Duration,
        goodbye: Goodbye,
    ) -> Self {
        info!(%address, "listening for peers");
        let others = config.tell.iter().copied().filter(|peer| *peer != address);
        let shared = Arc::new(Shared {
            id: identity.id.clone(),
            socket,
            is_ipv6: address.is_ipv6(),
            table: PeerTable::new(others, known),
            pending: Mutex::default(),
            leaving: CancellationToken::new(),
            ignored: AtomicU64::new(0),
            complaints: Throttle::default(),
        });
        let mut tasks = JoinSet::new();
        // Stops the tasks when the goodbye is cancelled: after a hand-over, the new process answers
        // the peers.
        let cancelled = goodbye.cancelled();
        let listening = shared.clone().listen();
        tasks.spawn(async move { cancelled.run_until_cancelled(listening).await.unwrap_or(()) });
        let cancelled = goodbye.cancelled();
        let greeting = shared.clone().greet(config.hello.duration());
        tasks.spawn(async move { cancelled.run_until_cancelled(greeting).await.unwrap_or(()) });
        let leaving = shared.clone();
        goodbye.prepare(limit, move |until| leaving.clone().leave(until));
        Self {
            shared,
            goodbye,
            tasks,
        }
    }

    pub(super) fn table(&self) -> PeerTable {
        self.shared.table.clone()
    }
}

/// A goodbye that waits for its acknowledgement until it is dropped.
struct PendingAck<'a> {
    shared: &'a Shared,
    key: (SocketAddr, Nonce),
    acknowledged: oneshot::Receiver<()>,
}

impl Drop for PendingAck<'_> {
    fn drop(&mut self) {
        self.shared.pending().remove(&self.key);
    }
}

impl Component for Peers {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        let shared = self.shared.clone();
        cx.waiting_for(move || format!("acknowledgements from {}", shared.unacknowledged()));
        let sent = self.goodbye.send().await;
        self.tasks.abort_all();
        self.tasks.cleanup(cx).await?;
        sent
    }

    fn abort(&mut self) {
        self.tasks.abort();
    }

    fn release(&mut self) {
        self.tasks.abort();
    }
}

impl Shared {
    /// Sends goodbyes to each peer that is present. Ends when all have acknowledged a goodbye, or
    /// when `until` has passed.
    async fn leave(self: Arc<Self>, until: Instant) -> Result<(), BoxError> {
        self.leaving.cancel();
        let present = self.table.present();
        let acknowledged = present.iter().map(|peer| self.send_goodbye(*peer, until));
        let acknowledged = join_all(acknowledged).await;
        let silent: Vec<_> = std::iter::zip(&present, acknowledged)
            .filter(|(_, acknowledged)| !acknowledged)
            .map(|(peer, _)| peer.to_string())
            .collect();
        info!(
            acknowledged = present.len() - silent.len(),
            "peers acknowledged the goodbye"
        );
        if silent.is_empty() {
            Ok(())
        } else {
            Err(format!("no acknowledgement from {}", silent.join(", ")).into())
        }
    }

    /// Sends goodbyes to `peer` until it acknowledges a goodbye. Returns false if it has not done
    /// so when `until` has passed.
    async fn send_goodbye(&self, peer: SocketAddr, until: Instant) -> bool {
        let nonce = datagram::nonce();
        let mut waiting = self.await_ack(peer, &nonce);
        let pauses = ExponentialBuilder::new()
            .with_min_delay(FIRST_REPEAT)
            .with_max_delay(LONGEST_REPEAT)
            .with_jitter()
            .without_max_times()
            .build();
        for pause in pauses {
            self.send(Kind::Goodbye, &nonce, peer).await;
            let next = until.min(Instant::now() + pause);
            if timeout_at(next, &mut waiting.acknowledged).await.is_ok() {
                return true;
            }
            if next == until {
                break;
            }
        }
        false
    }

    fn await_ack(&self, peer: SocketAddr, nonce: &str) -> PendingAck<'_> {
        let (sender, acknowledged) = oneshot::channel();
        let key = (peer, nonce.to_owned());
        self.pending().insert(key.clone(), sender);
        PendingAck {
            shared: self,
            key,
            acknowledged,
        }
    }

    /// Lists the peers that have not acknowledged a goodbye.
    fn unacknowledged(&self) -> String {
        let mut peers: Vec<_> = self.pending().keys().map(|(peer, _)| *peer).collect();
        peers.sort();
        let peers: Vec<_> = peers.iter().map(ToString::to_string).collect();
        peers.join(", ")
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<(SocketAddr, Nonce), oneshot::Sender<()>>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Greets all peers at intervals of `every`, until the server leaves.
    async fn greet(self: Arc<Self>, every: Duration) {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self
            .leaving
            .run_until_cancelled(ticks.tick())
            .await
            .is_some()
        {
            for peer in self.table.addresses() {
                self.send(Kind::Hello, &datagram::nonce(), peer).await;
            }
        }
    }

    async fn send(&self, kind: Kind, nonce: &str, to: SocketAddr) {
        let datagram = Datagram {
            kind,
            id: self.id.as_str().into(),
            nonce: nonce.into(),
        };
        if let Err(error) = self
            .socket
            .send_to(&datagram.encode(), self.reached(to))
            .await
            && self.complaints.allows()
        {
            warn!(%error, peer = %to, "a datagram to a peer was not sent");
        }
    }

    /// Converts an address to the socket's family. An IPv6 socket needs mapped addresses to reach
    /// IPv4 peers.
    fn reached(&self, to: SocketAddr) -> SocketAddr {
        match to.ip() {
            IpAddr::V4(ip) if self.is_ipv6 => (ip.to_ipv6_mapped(), to.port()).into(),
            _ => to,
        }
    }

    /// Receives datagrams until the task is aborted.
    async fn listen(self: Arc<Self>) {
        let mut buffer = [0; datagram::LONGEST + 1];
        loop {
            match self.socket.recv_from(&mut buffer).await {
                Ok((length, from)) => self.received(&buffer[..length], from).await,
                Err(error) => {
                    self.ignore(None, &error.into());
                    sleep(PAUSE).await;
                }
            }
        }
    }

    async fn received(&self, bytes: &[u8], from: SocketAddr) {
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        let datagram = match Datagram::decode(bytes) {
            _ if !self.table.contains(from) => Err("the sender is not a configured peer".into()),
            Ok(datagram) if datagram.id == self.id => {
                Err("the sender has the id of this proxy".into())
            }
            other => other,
        };
        match datagram {
            Ok(Datagram { kind, id, nonce }) => {
                self.table.record(from, &id, kind);
                if kind == Kind::Ack {
                    let waiting = self.pending().remove(&(from, nonce.into_owned()));
                    // Ignores an error, since the goodbye may have timed out by now.
                    waiting.map(|waiting| waiting.send(()));
                } else {
                    self.send(Kind::Ack, &nonce, from).await;
                }
            }
            Err(error) => self.ignore(Some(from), &error),
        }
    }

    fn ignore(&self, from: Option<SocketAddr>, error: &BoxError) {
        // Relaxed, since this number is only counted and logged.
        let ignored = self.ignored.fetch_add(1, Ordering::Relaxed) + 1;
        if self.complaints.allows() {
            let from = from.map(tracing::field::display);
            warn!(from, %error, ignored, "ignoring a datagram");
        }
    }
}

#[cfg(test)]
mod tests;

//! What is known of the peers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tracing::info;

use super::datagram::Kind;
use crate::telemetry::timestamp;

/// Another proxy.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Peer {
    /// Where it sends from and listens.
    pub address: SocketAddr,
    /// What it calls itself, once it did.
    #[serde(default)]
    pub id: Option<String>,
    /// When it was last heard of, by the wall clock.
    #[serde(default, with = "timestamp::unix_millis")]
    pub last_seen: Option<SystemTime>,
    /// Whether it said goodbye then.
    #[serde(default)]
    pub gone: bool,
}

/// All peers. A cheap clone is the same table.
#[derive(Clone, Debug)]
pub struct PeerTable(Arc<Mutex<BTreeMap<SocketAddr, Peer>>>);

impl PeerTable {
    /// These peers and no others, with what was known of them.
    pub(super) fn new(addresses: impl Iterator<Item = SocketAddr>, known: Vec<Peer>) -> Self {
        let mut known: BTreeMap<_, _> =
            known.into_iter().map(|peer| (peer.address, peer)).collect();
        let peers = addresses.map(|address| {
            let peer = known.remove(&address).unwrap_or(Peer {
                address,
                id: None,
                last_seen: None,
                gone: false,
            });
            (address, peer)
        });
        Self(Arc::new(Mutex::new(peers.collect())))
    }

    /// What is known of each.
    #[must_use]
    pub fn list(&self) -> Vec<Peer> {
        self.peers().values().cloned().collect()
    }

    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.peers().keys().copied().collect()
    }

    /// Those that have not said goodbye.
    pub(super) fn present(&self) -> Vec<SocketAddr> {
        let peers = self.peers();
        let present = peers.values().filter(|peer| !peer.gone);
        present.map(|peer| peer.address).collect()
    }

    pub(super) fn knows(&self, address: SocketAddr) -> bool {
        self.peers().contains_key(&address)
    }

    /// A peer has sent something. One that goes still acknowledges what it hears, so
    /// only a greeting says that it is back.
    pub(super) fn heard(&self, from: SocketAddr, id: &str, kind: Kind) {
        let mut peers = self.peers();
        let Some(peer) = peers.get_mut(&from) else {
            return;
        };
        let before = (peer.last_seen.is_some() && !peer.gone, peer.gone);
        peer.last_seen = Some(SystemTime::now());
        if peer.id.as_deref() != Some(id) {
            peer.id = Some(id.to_owned());
        }
        match kind {
            Kind::Hello => peer.gone = false,
            Kind::Goodbye => peer.gone = true,
            Kind::Ack => {}
        }
        let gone = peer.gone;
        drop(peers);
        match (before, gone) {
            ((_, false), true) => info!(peer = id, address = %from, "a peer said goodbye"),
            ((false, _), false) => info!(peer = id, address = %from, "a peer is there"),
            _ => {}
        }
    }

    fn peers(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, Peer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_greeting_says_that_a_peer_is_back() {
        let address = SocketAddr::from(([192, 0, 2, 1], 1));
        let table = PeerTable::new(std::iter::once(address), Vec::new());
        for (kind, present) in [
            (Kind::Hello, 1),
            (Kind::Goodbye, 0),
            (Kind::Ack, 0),
            (Kind::Goodbye, 0),
            (Kind::Hello, 1),
        ] {
            table.heard(address, "a", kind);
            assert_eq!(table.present().len(), present, "{kind:?}");
        }
    }
}

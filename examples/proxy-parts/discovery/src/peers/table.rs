//! The known state of the peers: whether each is present, and when it was heard.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use lifecycle_proxy_common::timestamp;
use serde::{Deserialize, Serialize};
use tracing::info;

use super::datagram::Kind;

/// A peer, which is another server.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Peer {
    /// The peer's address, for its sending and its receiving.
    pub address: SocketAddr,
    /// The id that the peer sends. `None` until a datagram of the peer has come.
    #[serde(default)]
    pub id: Option<String>,
    /// The time of the peer's last datagram, by the wall clock.
    #[serde(default, with = "timestamp::unix_millis")]
    pub last_seen: Option<SystemTime>,
    /// Whether the peer has said goodbye.
    #[serde(default)]
    pub gone: bool,
}

/// The table of all peers. Clones are cheap and share state.
#[derive(Clone, Debug)]
pub struct PeerTable(Arc<Mutex<BTreeMap<SocketAddr, Peer>>>);

impl PeerTable {
    /// Creates a table of the peers at `addresses`. Takes the state of each peer from `known`, if
    /// it is there.
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

    /// Lists all peers.
    #[must_use]
    pub fn list(&self) -> Vec<Peer> {
        self.peers().values().cloned().collect()
    }

    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.peers().keys().copied().collect()
    }

    /// Lists the addresses of the peers that have not said goodbye.
    pub(super) fn present(&self) -> Vec<SocketAddr> {
        let peers = self.peers();
        let present = peers.values().filter(|peer| !peer.gone);
        present.map(|peer| peer.address).collect()
    }

    pub(super) fn contains(&self, address: SocketAddr) -> bool {
        self.peers().contains_key(&address)
    }

    /// Records a datagram of a peer. Only a hello marks the peer as present again, since a peer
    /// that leaves still sends acknowledgements.
    pub(super) fn record(&self, from: SocketAddr, id: &str, kind: Kind) {
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
            ((false, _), false) => info!(peer = id, address = %from, "a peer is present"),
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
    fn only_a_hello_marks_a_peer_as_present_again() {
        let address = SocketAddr::from(([192, 0, 2, 1], 1));
        let table = PeerTable::new(std::iter::once(address), Vec::new());
        for (kind, present) in [
            (Kind::Hello, 1),
            (Kind::Goodbye, 0),
            (Kind::Ack, 0),
            (Kind::Goodbye, 0),
            (Kind::Hello, 1),
        ] {
            table.record(address, "a", kind);
            assert_eq!(table.present().len(), present, "{kind:?}");
        }
    }
}

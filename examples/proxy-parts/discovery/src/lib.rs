//! Announcements of a server: by multicast DNS, by datagrams to peers, and in Consul and etcd.
//!
//! Every announcement is followed by one goodbye. A hook of the runner sends it during the lame
//! duck. If no hook has sent it, the shutdown's step does. Registration runs in the background, and
//! its failures are only logged.
//!
//! [`Discovery`] is a part, which a server has as a field.
//!
//! ```
//! use std::net::SocketAddr;
//! use std::sync::Arc;
//!
//! use lifecycle_proxy_discovery::settings::Settings;
//! use lifecycle_proxy_discovery::{Discovery, Goodbyes};
//! use lifecycle_runtime::{BoxError, GracefulShutdown, ShutdownState};
//! use tokio::net::UdpSocket;
//!
//! #[derive(GracefulShutdown)]
//! struct Server {
//!     #[shutdown(best_effort)]
//!     discovery: Discovery,
//!     #[shutdown(state)]
//!     state: ShutdownState,
//! }
//!
//! fn announce(id: &str, socket: UdpSocket, peer: SocketAddr) -> Result<Discovery, BoxError> {
//!     let address = socket.local_addr()?;
//!     let json = format!(r#"{{"id": "{id}", "peers": {{"listen": "{address}", "tell": ["{peer}"]}}}}"#);
//!     let settings: Settings = serde_json::from_str(&json)?;
//!     let serving = SocketAddr::from(([127, 0, 0, 1], 8080));
//!     let socket = Some((Arc::new(socket), address));
//!     Ok(Discovery::start(&settings, serving, socket, Vec::new(), &Goodbyes::default()))
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let (mine, other) = (UdpSocket::bind("127.0.0.1:0").await?, UdpSocket::bind("127.0.0.1:0").await?);
//! let (here, there) = (mine.local_addr()?, other.local_addr()?);
//! let peer = announce("other", other, here)?;
//! let mut server = Server {
//!     discovery: announce("mine", mine, there)?,
//!     state: ShutdownState::new(),
//! };
//! assert!(server.shutdown().await.is_clean(), "the peer acknowledged the goodbye");
//! let known = peer.peers().expect("it has peers").list();
//! assert!(known[0].gone);
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod announcement;
mod call;
mod consul;
mod etcd;
mod goodbye;
mod identity;
mod peers;
mod registration;
pub mod settings;

use std::net::SocketAddr;
use std::sync::Arc;

use lifecycle_runtime::{GracefulShutdown, Runner};
use tokio::net::UdpSocket;

use crate::settings::Settings;
use announcement::Announcement;
use consul::Consul;
use etcd::Etcd;
use registration::Registration;

pub use goodbye::Goodbye;
pub use identity::Identity;
pub use peers::{Peer, PeerTable, Peers};

/// The announcements of one server. Its shutdown sends the goodbyes.
#[derive(Debug, Default, GracefulShutdown)]
#[shutdown(part, strict)]
pub struct Discovery {
    #[shutdown(priority = 0, best_effort)]
    mdns: Option<Announcement>,
    #[shutdown(priority = 0, best_effort)]
    peers: Option<Peers>,
    #[shutdown(priority = 0, best_effort)]
    consul: Option<Registration>,
    #[shutdown(priority = 0, best_effort)]
    etcd: Option<Registration>,
    #[shutdown(skip)]
    goodbyes: Goodbyes,
}

impl Discovery {
    /// Starts to announce the server at `address`. `socket` sends and receives the datagrams of
    /// peers; the pair contains the socket's address. `known` is the saved state of the peers.
    #[must_use]
    pub fn start(
        config: &Settings,
        address: SocketAddr,
        socket: Option<(Arc<UdpSocket>, SocketAddr)>,
        known: Vec<Peer>,
        goodbyes: &Goodbyes,
    ) -> Self {
        let identity = Identity::new(config, address);
        let limit = config.timeout.duration();
        let peers = config.peers.as_ref().zip(socket).map(|(peers, socket)| {
            let goodbye = goodbyes.peers.clone();
            Peers::start(peers, socket, &identity, known, limit, goodbye)
        });
        let mdns = config
            .mdns
            .as_ref()
            .and_then(|mdns| Announcement::start(mdns, &identity, limit, goodbyes.mdns.clone()));
        let consul = config.consul.as_ref().map(|consul| {
            let registry = Consul::new(consul, &identity);
            Registration::start(registry, limit, goodbyes.consul.clone())
        });
        let etcd = config.etcd.as_ref().map(|etcd| {
            let registry = Etcd::new(etcd, &identity);
            Registration::start(registry, limit, goodbyes.etcd.clone())
        });
        Self {
            mdns,
            peers,
            consul,
            etcd,
            goodbyes: goodbyes.clone(),
        }
    }

    /// Cancels all goodbyes, because another process goes on under the same announcements.
    pub fn hand_over(&self) {
        let Goodbyes {
            mdns,
            peers,
            consul,
            etcd,
        } = &self.goodbyes;
        for goodbye in [mdns, peers, consul, etcd] {
            goodbye.cancel();
        }
    }

    /// Returns the table of peers, if peers are configured. The returned table is updated while the
    /// server runs.
    #[must_use]
    pub fn peers(&self) -> Option<PeerTable> {
        self.peers.as_ref().map(Peers::table)
    }
}

/// The goodbyes of one server. The code that runs the server may send them before the shutdown.
/// Clones are cheap and share state.
#[derive(Clone, Debug, Default)]
pub struct Goodbyes {
    mdns: Goodbye,
    peers: Goodbye,
    consul: Goodbye,
    etcd: Goodbye,
}

impl Goodbyes {
    /// Adds hooks to `runner` that send the configured goodbyes during its lame duck.
    pub fn hook<S: GracefulShutdown, B>(
        &self,
        mut runner: Runner<S, B>,
        config: &Settings,
    ) -> Runner<S, B> {
        for (name, wanted, goodbye) in [
            ("mdns", config.mdns.is_some(), &self.mdns),
            ("peers", config.peers.is_some(), &self.peers),
            ("consul", config.consul.is_some(), &self.consul),
            ("etcd", config.etcd.is_some(), &self.etcd),
        ] {
            if wanted {
                let goodbye = goodbye.clone();
                runner = runner.deregister(name, async move || goodbye.send().await);
            }
        }
        runner
    }
}

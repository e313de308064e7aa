//! How others learn of the proxy, and that it leaves: multicast DNS, datagrams to
//! peers, Consul, etcd.
//!
//! Whoever is told of the start is told of the end, once: by a hook beside the lame
//! duck where there is one, otherwise by the step of the plan. Registering goes on in
//! the background, and no failure of it is one of the proxy.

mod announcement;
mod call;
mod consul;
mod etcd;
mod farewell;
mod identity;
mod peers;
mod registration;

use std::net::SocketAddr;

use lifecycle_runtime::{GracefulShutdown, Runner};
use tokio::net::UdpSocket;

use crate::config;
use crate::inbound::sockets::Listener;
use announcement::Announcement;
use consul::Consul;
use etcd::Etcd;
use registration::Registration;

pub use farewell::Farewell;
pub use identity::Identity;
pub use peers::{Peer, PeerTable, Peers};

/// All that tells others of the proxy.
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
    farewells: Farewells,
}

impl Discovery {
    /// Begins to tell others that the proxy serves at `address`. `known` is what was
    /// known of its peers, who are spoken to by `socket`.
    #[must_use]
    pub fn start(
        config: &config::Discovery,
        address: SocketAddr,
        socket: Option<Listener<UdpSocket>>,
        known: Vec<Peer>,
        farewells: &Farewells,
    ) -> Self {
        let identity = Identity::new(config, address);
        let limit = config.timeout.duration();
        let peers = config.peers.as_ref().zip(socket).map(|(peers, socket)| {
            let farewell = farewells.peers.clone();
            Peers::start(peers, socket, &identity, known, limit, farewell)
        });
        let mdns = config
            .mdns
            .as_ref()
            .and_then(|mdns| Announcement::start(mdns, &identity, limit, farewells.mdns.clone()));
        let consul = config.consul.as_ref().map(|consul| {
            let registry = Consul::new(consul, &identity);
            Registration::start(registry, limit, farewells.consul.clone())
        });
        let etcd = config.etcd.as_ref().map(|etcd| {
            let registry = Etcd::new(etcd, &identity);
            Registration::start(registry, limit, farewells.etcd.clone())
        });
        Self {
            mdns,
            peers,
            consul,
            etcd,
            farewells: farewells.clone(),
        }
    }

    /// Another process goes on with all that was announced: nobody is told of this
    /// one's end.
    pub fn pass_on(&self) {
        let Farewells {
            mdns,
            peers,
            consul,
            etcd,
        } = &self.farewells;
        for farewell in [mdns, peers, consul, etcd] {
            farewell.withhold();
        }
    }

    /// What is known of the peers, now and later.
    #[must_use]
    pub fn peers(&self) -> Option<PeerTable> {
        self.peers.as_ref().map(Peers::table)
    }
}

/// The goodbyes of one server: whoever runs it may say them before it shuts down. A
/// cheap clone.
#[derive(Clone, Debug, Default)]
pub struct Farewells {
    mdns: Farewell,
    peers: Farewell,
    consul: Farewell,
    etcd: Farewell,
}

impl Farewells {
    /// Has them said beside the lame duck of `runner`, those that are configured.
    pub fn hook<S: GracefulShutdown, B>(
        &self,
        mut runner: Runner<S, B>,
        config: &config::Discovery,
    ) -> Runner<S, B> {
        for (name, wanted, farewell) in [
            ("mdns", config.mdns.is_some(), &self.mdns),
            ("peers", config.peers.is_some(), &self.peers),
            ("consul", config.consul.is_some(), &self.consul),
            ("etcd", config.etcd.is_some(), &self.etcd),
        ] {
            if wanted {
                let farewell = farewell.clone();
                runner = runner.deregister(name, async move || farewell.say().await);
            }
        }
        runner
    }
}

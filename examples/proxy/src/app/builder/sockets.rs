//! Opens all sockets before any task starts, so that a failure leaves no task that must be stopped.

use std::net::SocketAddr;

use tokio::net::UdpSocket;

use crate::config::Config;
use crate::inbound::listener::BindError;
use crate::inbound::sockets::{InheritedSockets, Listener, Listening, Role};

/// The sockets that the proxy listens on.
pub(super) struct Sockets {
    pub(super) http: Vec<Listener>,
    pub(super) tls: Vec<Listener>,
    pub(super) admin: Option<Listener>,
    pub(super) peers: Option<Listener<UdpSocket>>,
}

impl Sockets {
    pub(super) async fn open(
        config: &Config,
        listening: &Listening,
        given: &mut InheritedSockets,
    ) -> Result<Self, BindError> {
        let http = &config.listen_addrs;
        let tls = &config.tls.listen_addrs;
        // A service manager that passes a socket with the name `admin` enables the admin listener.
        let passed = given
            .has(Role::Admin)
            .then(|| config.configured_admin_address());
        let admin: Vec<_> = config.admin_address().or(passed).into_iter().collect();
        let peers = match &config.discovery.peers {
            Some(peers) => Some(listening.listen_to_peers(given, peers.listen).await?),
            None => None,
        };
        let mut admin = listening.listen(given, Role::Admin, &admin).await?;
        Ok(Self {
            http: listening.listen(given, Role::Http, http).await?,
            tls: listening.listen(given, Role::Tls, tls).await?,
            admin: admin.pop(),
            peers,
        })
    }

    /// Returns the address to announce: the first HTTP address, or the first TLS address if there
    /// is no HTTP address.
    pub(super) fn first(&self) -> Option<SocketAddr> {
        let first = self.http.first().or(self.tls.first());
        first.map(|listener| listener.address)
    }
}

//! The accept loops, one for each socket that clients connect to.

use std::net::SocketAddr;

use tokio_util::sync::CancellationToken;
use tracing::info;

use super::shared::{Shared, limits_of};
use crate::forwarding::forward::Forward;
use crate::inbound::connections::Intake;
use crate::inbound::listener::AcceptLoops;
use crate::inbound::sockets::Listener;
use crate::streams::sni::Passthrough;

/// The accept loops and the addresses they listen on.
pub(super) struct Entrances {
    pub(super) accept: AcceptLoops,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) tls_addresses: Vec<SocketAddr>,
}

impl Entrances {
    /// Starts to accept connections, until `stop` is cancelled.
    pub(super) fn open(
        shared: &Shared,
        stop: CancellationToken,
        (http, forward): (Vec<Listener>, &Forward),
        (tls, passthrough): (Vec<Listener>, &Passthrough),
    ) -> Self {
        let mut accept = AcceptLoops::new(stop, shared.listening.left());
        let limits = limits_of(&shared.config.timeouts);
        let intake = Intake::new(shared.connections.acceptor(), limits);
        let mut addresses = Vec::with_capacity(http.len());
        for Listener { socket, address } in http {
            info!(%address, "listening");
            addresses.push(address);
            accept.spawn(socket, intake.clone(), forward.clone());
        }
        let mut tls_addresses = Vec::with_capacity(tls.len());
        for Listener { socket, address } in tls {
            info!(%address, "listening for TLS");
            tls_addresses.push(address);
            accept.spawn(socket, intake.clone(), passthrough.clone());
        }
        Self {
            accept,
            addresses,
            tls_addresses,
        }
    }
}

//! The client connection over which a request came.

use std::net::SocketAddr;

use lifecycle_http::{HttpConnection, Peer};

/// The connection of a client.
#[derive(Clone, Debug)]
pub struct Link {
    /// The client's address.
    pub peer: SocketAddr,
    /// The address that the client connected to.
    pub local: SocketAddr,
    /// The connection's handle. It is cancelled when responses without an end should end.
    pub connection: HttpConnection,
}

impl Link {
    /// Returns the client's side of a connection. Returns `None` if the client is gone.
    #[must_use]
    pub fn of(connection: &HttpConnection) -> Option<Self> {
        let &Peer::Addr(peer) = connection.peer() else {
            return None;
        };
        Some(Self {
            peer,
            local: connection.local_addr()?,
            connection: connection.clone(),
        })
    }
}

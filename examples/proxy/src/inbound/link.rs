//! The connection that a request came by, for its handler.

use std::net::SocketAddr;

use hyper::Request;
use lifecycle_http::{HttpConnection, Peer};

/// The connection of a client.
#[derive(Clone, Debug)]
pub struct Link {
    /// The client's address.
    pub peer: SocketAddr,
    /// The address it connected to.
    pub local: SocketAddr,
    /// The connection itself, which tells when a stream without an end should be ended.
    pub connection: HttpConnection,
}

impl Link {
    /// Returns the connection of a request; `None` if it did not come by a server of this proxy.
    #[must_use]
    pub fn of<B>(request: &Request<B>) -> Option<Self> {
        let connection = request.extensions().get::<HttpConnection>()?.clone();
        let &Peer::Addr(peer) = connection.peer() else {
            return None;
        };
        let local = connection.local_addr()?;
        Some(Self {
            peer,
            local,
            connection,
        })
    }
}

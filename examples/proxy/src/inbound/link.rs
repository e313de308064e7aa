//! What a request handler knows of the connection that a request came by.

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
    /// Tells when what has no end of its own should come to one.
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

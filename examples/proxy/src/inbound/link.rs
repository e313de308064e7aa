//! The client connection over which a request came.

use std::net::SocketAddr;

use hyper::Request;
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
    /// Takes the connection out of a request's extensions. Returns `None` if no server of this proxy
    /// received the request.
    pub fn take<B>(request: &mut Request<B>) -> Option<Self> {
        let connection = request.extensions_mut().remove::<HttpConnection>()?;
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

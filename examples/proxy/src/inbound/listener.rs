//! Functions that bind sockets, and functions that adopt inherited sockets.

use std::fmt;
use std::io;
use std::net::{self, SocketAddr};
use std::os::fd::OwnedFd;

use tokio::net::{TcpListener, UdpSocket};

/// The error that an address cannot be listened on.
#[derive(Debug)]
pub struct BindError {
    address: SocketAddr,
    error: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, error } = self;
        match error.kind() {
            io::ErrorKind::AddrInUse => write!(
                f,
                "cannot listen on {address}: another program does so already; \
                 choose another address with --listen, or 127.0.0.1:0 for any free port"
            ),
            _ => write!(f, "cannot listen on {address}: {error}"),
        }
    }
}

impl std::error::Error for BindError {}

/// Binds a listening socket. Returns the socket and its actual address.
///
/// # Errors
///
/// When the address is in use, does not belong to this machine, or is not allowed.
pub async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), BindError> {
    let bound = async {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    bound.await.map_err(|error| BindError { address, error })
}

/// Binds a datagram socket. Returns the socket and its actual address.
///
/// # Errors
///
/// When the address is in use, does not belong to this machine, or is not allowed.
pub async fn bind_datagrams(address: SocketAddr) -> Result<(UdpSocket, SocketAddr), BindError> {
    let bound = async {
        let socket = UdpSocket::bind(address).await?;
        let address = socket.local_addr()?;
        Ok((socket, address))
    };
    bound.await.map_err(|error| BindError { address, error })
}

/// Adopts an inherited datagram socket, which was bound for the configured address `asked`.
///
/// # Errors
///
/// When the socket cannot be registered with the event loop.
pub fn adopt_datagrams(
    socket: OwnedFd,
    asked: SocketAddr,
) -> Result<(UdpSocket, SocketAddr), BindError> {
    let adopted = || {
        let socket = net::UdpSocket::from(socket);
        socket.set_nonblocking(true)?;
        let socket = UdpSocket::from_std(socket)?;
        let address = socket.local_addr()?;
        Ok((socket, address))
    };
    adopted().map_err(|error| BindError {
        address: asked,
        error,
    })
}

/// Adopts an inherited listening socket, which was bound for the configured address `asked`.
///
/// # Errors
///
/// When the socket cannot be registered with the event loop.
pub fn adopt(socket: OwnedFd, asked: SocketAddr) -> Result<(TcpListener, SocketAddr), BindError> {
    let adopted = || {
        let socket = net::TcpListener::from(socket);
        socket.set_nonblocking(true)?;
        let listener = TcpListener::from_std(socket)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    adopted().map_err(|error| BindError {
        address: asked,
        error,
    })
}

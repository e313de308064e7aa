//! The layer between a socket and HTTP: none, or TLS.

use std::future::{Future, ready};
use std::io;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::Socket;

/// Turns an accepted socket into a stream of HTTP: TLS, say.
///
/// It has [`Limits::header_read_timeout`](crate::Limits::header_read_timeout) together with the client's first byte, and is dropped after that.
pub trait Handshake: Clone + Send + Sync + 'static {
    /// The stream of HTTP.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Shakes hands, and says what was agreed on (ALPN, RFC 7301).
    ///
    /// # Errors
    ///
    /// Whatever ends the connection; it is the client's affair, and logged at DEBUG.
    fn handshake(
        &self,
        socket: Socket,
    ) -> impl Future<Output = io::Result<(Self::Stream, Protocol)>> + Send;
}

/// A version of HTTP that a handshake agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protocol {
    /// The handshake does not tell: HTTP/2 if the client begins with its preface, otherwise HTTP/1.1.
    Unknown,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// No handshake.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Handshake for Plain {
    type Stream = Socket;

    fn handshake(
        &self,
        socket: Socket,
    ) -> impl Future<Output = io::Result<(Socket, Protocol)>> + Send {
        ready(Ok((socket, Protocol::Unknown)))
    }
}

#[cfg(feature = "rustls")]
impl Handshake for tokio_rustls::TlsAcceptor {
    type Stream = tokio_rustls::server::TlsStream<Socket>;

    async fn handshake(&self, socket: Socket) -> io::Result<(Self::Stream, Protocol)> {
        let stream = self.accept(socket).await?;
        let protocol = match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => Protocol::Http2,
            Some(_) => Protocol::Http1,
            None => Protocol::Unknown,
        };
        Ok((stream, protocol))
    }
}

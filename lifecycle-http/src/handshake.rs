//! The layer between a socket and HTTP: TLS, or no layer.

use std::future::{Future, ready};
use std::io;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::Socket;

/// A handshake that turns an accepted socket into a stream of HTTP, such as that of TLS.
///
/// The handshake and the client's first byte of HTTP together may take
/// [`Limits::header_read_timeout`](crate::Limits::header_read_timeout). After that time, the handshake is dropped.
pub trait Handshake: Clone + Send + Sync + 'static {
    /// The stream that carries HTTP after the handshake.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Shakes hands with the client, and returns the stream and the protocol that was agreed on (ALPN, RFC 7301).
    ///
    /// # Errors
    ///
    /// When the handshake fails. The server closes the connection, and logs the error only at DEBUG, since it is the
    /// client's affair.
    fn handshake(
        &self,
        socket: Socket,
    ) -> impl Future<Output = io::Result<(Self::Stream, Protocol)>> + Send;
}

/// A version of HTTP that a handshake agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protocol {
    /// The handshake does not tell the version: it is HTTP/2 if the client begins with the preface of HTTP/2, otherwise
    /// HTTP/1.1.
    Unknown,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// No handshake: the socket itself carries HTTP, in plain text.
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

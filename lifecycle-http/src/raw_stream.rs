//! An accepted stream, TCP or unix, as it was accepted.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::runtime::Handle;

/// An accepted stream: TCP or unix.
///
/// [`StreamServer`](crate::StreamServer) hands the stream to its service unchanged: only that service limits, counts or
/// closes it.
#[derive(Debug)]
#[non_exhaustive]
pub enum RawStream {
    /// A TCP connection.
    Tcp(TcpStream),
    /// A connection of a unix socket.
    #[cfg(unix)]
    Unix(UnixStream),
}

impl RawStream {
    /// Registers the socket with another runtime, which then tells when it is readable or writable.
    pub(crate) fn onto(self, runtime: &Handle) -> io::Result<Self> {
        let _on_runtime = runtime.enter();
        Ok(match self {
            Self::Tcp(tcp) => Self::Tcp(TcpStream::from_std(tcp.into_std()?)?),
            #[cfg(unix)]
            Self::Unix(unix) => Self::Unix(UnixStream::from_std(unix.into_std()?)?),
        })
    }

    /// Returns the address that the client connected to. Returns `None` for a unix socket, or if the client has left.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(tcp) => tcp.local_addr().ok(),
            #[cfg(unix)]
            Self::Unix(_) => None,
        }
    }
}

/// Calls a method of the TCP or unix stream inside a [`RawStream`].
macro_rules! inside {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream.get_mut() {
            RawStream::Tcp(tcp) => {
                let $inner = Pin::new(tcp);
                $call
            }
            #[cfg(unix)]
            RawStream::Unix(unix) => {
                let $inner = Pin::new(unix);
                $call
            }
        }
    };
}

impl AsyncRead for RawStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        inside!(self, stream => stream.poll_read(cx, buffer))
    }
}

impl AsyncWrite for RawStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        inside!(self, stream => stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        inside!(self, stream => stream.poll_write_vectored(cx, slices))
    }

    /// Returns `true`, since TCP and unix sockets support vectored writes.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        inside!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        inside!(self, stream => stream.poll_shutdown(cx))
    }
}

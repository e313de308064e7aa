//! The sockets of the tests, and the places where their clients connect.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixListener, UnixStream};

/// A place where a server listens.
pub trait Place {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    async fn connect(&self) -> io::Result<Self::Stream>;
}

/// A unix socket in a directory of its own, which is deleted with the value.
pub struct SocketFile(TempDir);

impl SocketFile {
    pub fn path(&self) -> PathBuf {
        self.0.path().join("socket")
    }
}

impl Place for SocketFile {
    type Stream = UnixStream;

    async fn connect(&self) -> io::Result<UnixStream> {
        UnixStream::connect(self.path()).await
    }
}

impl Place for SocketAddr {
    type Stream = TcpStream;

    /// Panics in a test with paused time: see [`unix`].
    async fn connect(&self) -> io::Result<TcpStream> {
        assert!(!is_paused(), "with paused time, sockets are unix sockets");
        let stream = TcpStream::connect(self).await?;
        // Without this, the kernel would delay small writes.
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// Binds a unix socket.
///
/// With paused time, sockets are unix sockets, since these deliver within the call that sends. TCP delivers later on a
/// busy machine, even within the machine. Until then the runtime has nothing to do, so the paused clock would jump to the
/// next timeout while bytes are on their way.
pub fn unix() -> (UnixListener, SocketFile) {
    let place = SocketFile(tempfile::tempdir().unwrap());
    (UnixListener::bind(place.path()).unwrap(), place)
}

/// Waits until the kernel has queued a client of `listener`. For TCP, that can be after the client has connected.
pub fn has_queued(listener: &impl AsFd) {
    rustix::event::poll(&mut [PollFd::new(listener, PollFlags::IN)], None).unwrap();
}

/// Returns whether tokio's clock stands still.
fn is_paused() -> bool {
    let (tokio, real) = (tokio::time::Instant::now(), Instant::now());
    while real.elapsed().is_zero() {}
    tokio.elapsed().is_zero()
}

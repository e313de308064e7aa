//! Listening sockets.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use lifecycle_runtime::Peer;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpListener;
#[cfg(unix)]
use tokio::net::UnixListener;

use crate::{Limits, RawStream};

/// The most connections that are taken from a closing listener. With Linux's default `somaxconn` of 4096, it is no less
/// than the kernel queues for a socket of tokio or std.
const BACKLOG: usize = 4096;

/// The most bytes that the kernel takes for a client before it has sent the earlier ones. Its buffer would grow to 4 MB
/// for a client that does not read, and all sockets of a machine share the kernel's memory for them.
#[cfg(any(target_os = "android", target_os = "linux"))]
const UNSENT: u32 = 128 * 1024;

/// A listening socket: TCP or unix. It is made from a socket of tokio or std, which may be inherited from another
/// process.
///
/// A program that hands its sockets to a successor process makes a [`Listener`] from an `Arc`, and keeps a `Weak` of
/// that `Arc`. While the server listens, the `Weak` gives the socket to duplicate.
#[derive(Debug)]
#[non_exhaustive]
pub enum Listener {
    /// A TCP socket.
    Tcp(Arc<TcpListener>),
    /// A unix socket.
    #[cfg(unix)]
    Unix(UnixListener),
}

impl Listener {
    /// Returns the address that the socket listens on. Returns `None` for a unix socket.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(tcp) => tcp.local_addr().ok(),
            #[cfg(unix)]
            Self::Unix(_) => None,
        }
    }

    pub(crate) async fn accept(&self) -> io::Result<(RawStream, Peer)> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(RawStream, Peer)>> {
        match self {
            Self::Tcp(tcp) => tcp
                .poll_accept(cx)
                .map_ok(|(tcp, peer)| (RawStream::Tcp(tcp), peer.into())),
            #[cfg(unix)]
            Self::Unix(unix) => unix
                .poll_accept(cx)
                .map_ok(|(unix, _)| (RawStream::Unix(unix), "unix".into())),
        }
    }

    /// Returns the connections in the kernel's accept queue, and closes the socket with the iterator. A socket that is
    /// closed over queued connections resets them, though their clients did nothing wrong.
    pub(crate) fn into_queue(self) -> impl Iterator<Item = (RawStream, Peer)> {
        let next: Box<dyn FnMut() -> io::Result<(RawStream, Peer)> + Send> = match self {
            Self::Tcp(tcp) => match std_of(tcp) {
                Ok(queue) => Box::new(move || {
                    let (tcp, peer) = queue.accept()?;
                    tcp.set_nonblocking(true)?;
                    Ok((
                        RawStream::Tcp(tokio::net::TcpStream::from_std(tcp)?),
                        peer.into(),
                    ))
                }),
                Err(error) => broken(error),
            },
            #[cfg(unix)]
            Self::Unix(unix) => match unix.into_std() {
                Ok(queue) => Box::new(move || {
                    let (unix, _) = queue.accept()?;
                    unix.set_nonblocking(true)?;
                    Ok((
                        RawStream::Unix(tokio::net::UnixStream::from_std(unix)?),
                        "unix".into(),
                    ))
                }),
                Err(error) => broken(error),
            },
        };
        queued(next)
    }
}

/// Returns the socket itself, or a duplicate of its descriptor if somebody else holds the `Arc` just now.
fn std_of(tcp: Arc<TcpListener>) -> io::Result<std::net::TcpListener> {
    match Arc::try_unwrap(tcp) {
        Ok(tcp) => tcp.into_std(),
        Err(shared) => SockRef::from(&*shared).try_clone().map(Into::into),
    }
}

fn broken(error: io::Error) -> Box<dyn FnMut() -> io::Result<(RawStream, Peer)> + Send> {
    let kind = error.kind();
    Box::new(move || Err(kind.into()))
}

fn queued(
    mut next: impl FnMut() -> io::Result<(RawStream, Peer)>,
) -> impl Iterator<Item = (RawStream, Peer)> {
    // The number is bounded, because clients may connect faster than their connections are taken here.
    (0..BACKLOG)
        .map_while(move |_| match next() {
            Ok(accepted) => Some(Some(accepted)),
            Err(error) if is_of_one_client(&error) => Some(None),
            Err(_) => None,
        })
        .flatten()
}

/// Returns whether an accept failed only because its client left the queue. The next client in the queue is not
/// affected.
pub(crate) fn is_of_one_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

/// Makes a TCP socket send small answers at once, and bounds what the kernel holds for a client that does not read.
/// Errors are ignored, because the socket may be gone.
pub(crate) fn tune_writes(socket: &RawStream) {
    if let RawStream::Tcp(tcp) = socket {
        let _ = tcp.set_nodelay(true);
        #[cfg(any(target_os = "android", target_os = "linux"))]
        let _ = SockRef::from(tcp).set_tcp_notsent_lowat(UNSENT);
    }
}

/// Tunes the writes of a TCP socket, and makes the kernel probe for clients that are gone without closing.
/// Errors are ignored, because the socket may be gone, too.
pub(crate) fn tune(socket: &RawStream, limits: &Limits) {
    tune_writes(socket);
    if let RawStream::Tcp(tcp) = socket {
        let probes = TcpKeepalive::new()
            .with_time(probing(limits.idle))
            .with_interval(probing(limits.ping));
        let _ = SockRef::from(tcp).set_tcp_keepalive(&probes);
    }
}

/// Returns `time` within the bounds that Linux has for the times of its probes, in whole seconds.
fn probing(time: Duration) -> Duration {
    time.clamp(Duration::from_secs(1), Duration::from_secs(i16::MAX as u64))
}

impl From<TcpListener> for Listener {
    fn from(tcp: TcpListener) -> Self {
        Self::Tcp(Arc::new(tcp))
    }
}

impl From<Arc<TcpListener>> for Listener {
    fn from(tcp: Arc<TcpListener>) -> Self {
        Self::Tcp(tcp)
    }
}

#[cfg(unix)]
impl From<UnixListener> for Listener {
    fn from(unix: UnixListener) -> Self {
        Self::Unix(unix)
    }
}

/// Makes the socket non-blocking. Fails if the system refuses that. Panics outside a tokio runtime.
impl TryFrom<std::net::TcpListener> for Listener {
    type Error = io::Error;

    fn try_from(tcp: std::net::TcpListener) -> io::Result<Self> {
        tcp.set_nonblocking(true)?;
        TcpListener::from_std(tcp).map(Self::from)
    }
}

/// Makes the socket non-blocking. Fails if the system refuses that. Panics outside a tokio runtime.
#[cfg(unix)]
impl TryFrom<std::os::unix::net::UnixListener> for Listener {
    type Error = io::Error;

    fn try_from(unix: std::os::unix::net::UnixListener) -> io::Result<Self> {
        unix.set_nonblocking(true)?;
        UnixListener::from_std(unix).map(Self::Unix)
    }
}

//! Listening sockets and the loops that accept from them.

use std::fmt;
use std::io;
use std::net::{self, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use lifecycle_runtime::{BoxError, Component, Context};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::inbound::connection::Serve;
use crate::inbound::connections::Intake;
use crate::telemetry::logging::Throttle;

/// The pause after an accept that failed for want of something, doubled each
/// time, so that a full descriptor table does not make the loop spin.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The most connections that a kernel keeps for a socket of tokio.
const BACKLOG: usize = 1024;

/// An address that cannot be listened on.
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

/// Binds a listening socket, and returns the address it has then.
///
/// # Errors
///
/// When the address is taken, not of this machine, or not allowed.
pub async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), BindError> {
    let bound = async {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    bound.await.map_err(|error| BindError { address, error })
}

/// Binds a socket for datagrams, and returns the address it has then.
///
/// # Errors
///
/// As [`bind`].
pub async fn bind_datagrams(address: SocketAddr) -> Result<(UdpSocket, SocketAddr), BindError> {
    let bound = async {
        let socket = UdpSocket::bind(address).await?;
        let address = socket.local_addr()?;
        Ok((socket, address))
    };
    bound.await.map_err(|error| BindError { address, error })
}

/// Takes datagrams by a socket that there is already, as [`adopt`].
///
/// # Errors
///
/// When it is of no use to the event loop.
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

/// Listens on a socket that there is already, for what was to listen on `asked`.
///
/// # Errors
///
/// When it is of no use to the event loop.
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

/// Accept loops. Their cleanup closes the listening sockets.
#[derive(Debug)]
pub struct AcceptLoops {
    stop: CancellationToken,
    left: CancellationToken,
    loops: JoinSet<()>,
}

impl AcceptLoops {
    /// No loop yet. They end when `stop` is cancelled, when another process has
    /// taken over, which `left` tells, or with this value.
    #[must_use]
    pub fn new(stop: CancellationToken, left: CancellationToken) -> Self {
        Self {
            stop,
            left,
            loops: JoinSet::new(),
        }
    }

    /// Accepts from `listener` and hands the connections on.
    pub fn spawn<S: Serve>(&mut self, listener: Arc<TcpListener>, intake: Intake, server: S) {
        let (stop, left) = (self.stop.clone(), self.left.clone());
        self.loops.spawn(async move {
            left.run_until_cancelled(accept_until(&stop, &listener, &intake, &server))
                .await;
            let address = listener.local_addr().ok();
            accept_queued(listener, &intake, &server);
            info!(
                address = address.map(tracing::field::display),
                "no longer listening"
            );
        });
    }
}

async fn accept_until<S: Serve>(
    stop: &CancellationToken,
    listener: &TcpListener,
    intake: &Intake,
    server: &S,
) {
    let mut pause = FIRST_PAUSE;
    let complaints = Throttle::default();
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, peer)) => {
                pause = FIRST_PAUSE;
                intake.take(stream, peer, server);
            }
            Err(error) if is_of_one_client(&error) => {}
            Err(error) => {
                if complaints.allows() {
                    warn!(%error, pause_ms = pause.as_millis(), "cannot accept connections");
                }
                stop.run_until_cancelled(sleep(pause)).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// The client left while it was queued; the next one is not concerned.
fn is_of_one_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

/// Takes in the connections that the kernel has already completed: closing the
/// socket over them would reset clients that did nothing wrong.
fn accept_queued<S: Serve>(listener: Arc<TcpListener>, intake: &Intake, server: &S) {
    // Asked directly: the event loop may not know of them yet.
    let Ok(queue) = listener.as_fd().try_clone_to_owned() else {
        return;
    };
    let queue = net::TcpListener::from(queue);
    // Bounded, as clients may come faster than they are taken in.
    for _ in 0..BACKLOG {
        let Ok((stream, peer)) = queue.accept() else {
            return;
        };
        let stream = stream
            .set_nonblocking(true)
            .and_then(|()| TcpStream::from_std(stream));
        if let Ok(stream) = stream {
            intake.take(stream, peer, server);
        }
    }
}

impl Component for AcceptLoops {
    async fn cleanup(&mut self, _: &Context) -> Result<(), BoxError> {
        self.stop.cancel();
        let mut outcome = Ok(());
        while let Some(ended) = self.loops.join_next().await {
            outcome = outcome.and(ended);
        }
        Ok(outcome?)
    }

    fn abort(&mut self) {
        self.loops.abort_all();
    }

    fn release(&mut self) {
        self.loops.abort_all();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::num::NonZeroUsize;

    use bytes::Bytes;
    use http_body_util::Full;
    use hyper::{Request, Response};
    use lifecycle_runtime::{Connections, Reason};

    use super::*;
    use crate::inbound::activity::Limits;
    use crate::inbound::body::Upload;
    use crate::inbound::connection::{Handler, Link};

    #[derive(Clone)]
    struct Greet;

    impl Handler for Greet {
        type Body = Full<Bytes>;

        async fn handle(&self, _: Request<Upload>, _: Link) -> Response<Full<Bytes>> {
            Response::new(Full::from("hello"))
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_the_kernel_took_in_before_the_end_is_answered() {
        let hour = Duration::from_secs(3600);
        let limits = Limits {
            header_read_timeout: hour,
            idle: hour,
        };
        let mut connections = Connections::new(NonZeroUsize::MAX);
        let intake = Intake::new(connections.acceptor(), limits);
        let cx = Context::new(Reason::Requested, hour);
        // Told before the loop begins: it finds only what is queued.
        let stop = CancellationToken::new();
        stop.cancel();

        let (listener, address) = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let mut clients: Vec<_> = (0..20)
            .map(|_| std::net::TcpStream::connect(address).unwrap())
            .collect();
        for client in &mut clients {
            client
                .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                .unwrap();
        }
        let silent = std::net::TcpStream::connect(address).unwrap();

        let mut accept = AcceptLoops::new(stop, CancellationToken::new());
        accept.spawn(Arc::new(listener), intake, Greet);
        accept.cleanup(&cx).await.unwrap();
        connections.cleanup(&cx).await.unwrap();

        for mut client in clients {
            let mut text = String::new();
            client.read_to_string(&mut text).unwrap();
            assert!(text.ends_with("hello"), "{text:?}");
        }
        assert_eq!((&silent).read(&mut [0]).unwrap(), 0, "it had said nothing");
        assert!(std::net::TcpStream::connect(address).is_err());
    }
}

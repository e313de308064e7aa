//! TLS passthrough. Each connection is passed on to the server that its client names in its first
//! message (RFC 6066 §3). Only that message is read, and nothing is decrypted.
//!
//! [`Passthrough`] is a handler for a [`StreamServer`](lifecycle_http::StreamServer):
//!
//! ```
//! use std::time::Duration;
//!
//! use lifecycle_http::StreamServer;
//! use lifecycle_proxy_passthrough::settings::Settings;
//! use lifecycle_proxy_passthrough::{Fate, Passthrough, Times};
//! use lifecycle_runtime::{GracefulShutdown, ShutdownState};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! #[derive(GracefulShutdown)]
//! struct Server {
//!     #[shutdown]
//!     tls: StreamServer,
//!     #[shutdown(state)]
//!     state: ShutdownState,
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! let settings: Settings = serde_json::from_str(
//!     r#"{"listen_addrs": ["127.0.0.1:0"], "allow": [{"name": "*.example.com"}]}"#,
//! )?;
//! let limit = Duration::from_secs(10);
//! let times = Times { connect: limit, hello: limit, idle: Duration::from_secs(60) };
//! let passthrough = Passthrough::new(&settings.allow, times);
//! let counts = passthrough.counts();
//! let address = settings.listen_addrs[0].to_string();
//! let mut server = Server {
//!     tls: StreamServer::bind(&address)
//!         .await?
//!         .serve(move |stream, connection| passthrough.clone().serve(stream, connection)),
//!     state: ShutdownState::new(),
//! };
//! let mut client = tokio::net::TcpStream::connect(server.tls.addresses()[0]).await?;
//! client.write_all(b"this is not TLS").await?;
//! assert_eq!(client.read(&mut [0]).await?, 0, "refused");
//! assert_eq!(counts.of(Fate::NoHello), 1);
//! assert!(server.shutdown().await.is_clean());
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod last_activity;
pub mod settings;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use lifecycle_http::RawStream;
use lifecycle_proxy_common::Throttle;
use lifecycle_runtime::{BoxError, CloseReason, Connection, Peer};
use rustls::server::Acceptor;
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf, copy_bidirectional,
};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::{debug, warn};

use last_activity::LastActivity;
use settings::Allowed;

/// The size of the largest first message of a client, in bytes.
const LONGEST_HELLO: usize = 64 * 1024;

/// The TLS alert that ends a connection with the reason unrecognized_name (RFC 8446 §6).
const UNRECOGNIZED_NAME: [u8; 7] = [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x70];

/// Time limits of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// The time limit of connecting to a server.
    pub connect: Duration,
    /// The time limit of the client's first message.
    pub hello: Duration,
    /// The longest time without a byte in either direction.
    pub idle: Duration,
}

/// A handler that passes TLS connections on to servers. Clones are cheap and share state.
#[derive(Clone, Debug)]
pub struct Passthrough(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    allow: Vec<Allowed>,
    connect: Duration,
    /// The time limit of the client's first message.
    hello: Duration,
    /// The longest time without a byte in either direction.
    idle: Duration,
    counts: Counts,
    complaints: Throttle,
}

/// Numbers of TLS connections by their outcome. Clones are cheap and share state.
#[derive(Clone, Debug, Default)]
pub struct Counts(Arc<[AtomicU64; 5]>);

/// The outcome of a TLS connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(usize)]
pub enum Fate {
    /// The connection was passed on.
    Passed,
    /// The client's first message was not TLS, or did not come in time.
    NoHello,
    /// The client's first message had no server name.
    NoName,
    /// The client's first message had a server name that is not allowed.
    NotAllowed,
    /// The server with that name could not be reached.
    Unreachable,
}

impl Fate {
    /// The list of all outcomes, in the order of their numbers.
    pub const ALL: [Self; 5] = [
        Self::Passed,
        Self::NoHello,
        Self::NoName,
        Self::NotAllowed,
        Self::Unreachable,
    ];

    /// Returns the name of the outcome, for logs and labels.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::NoHello => "no_hello",
            Self::NoName => "no_name",
            Self::NotAllowed => "not_allowed",
            Self::Unreachable => "unreachable",
        }
    }
}

impl Counts {
    /// Returns the number of connections with this outcome.
    #[must_use]
    pub fn of(&self, fate: Fate) -> u64 {
        self.0[fate as usize].load(Ordering::Relaxed)
    }

    fn add(&self, fate: Fate) -> u64 {
        self.0[fate as usize].fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// The reason why a connection was not passed on.
struct Refusal {
    fate: Fate,
    error: BoxError,
}

impl Passthrough {
    /// Creates a handler that passes connections on to the servers of `allow`.
    #[must_use]
    pub fn new(allow: &[Allowed], times: Times) -> Self {
        Self(Arc::new(Inner {
            allow: allow.to_vec(),
            connect: times.connect,
            hello: times.hello,
            idle: times.idle,
            counts: Counts::default(),
            complaints: Throttle::default(),
        }))
    }

    /// Returns the counters, which are updated with each connection.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.0.counts.clone()
    }

    /// Serves a connection of a client until it ends.
    ///
    /// # Errors
    ///
    /// When the connection to the client or to the server breaks after it was passed on.
    pub async fn serve(
        self,
        mut stream: RawStream,
        connection: Connection,
    ) -> Result<(), BoxError> {
        connection.set_protocol("TLS");
        // Marked as busy, since this handler itself ends silent connections.
        let _busy = connection.busy();
        let Inner { hello, idle, .. } = *self.0;
        let opened = self.0.open(&mut stream, hello, &connection);
        let (upstream, hello) = match opened.await {
            Ok(Some(opened)) => opened,
            Ok(None) => return Ok(()),
            Err(refusal) => {
                self.0.refuse(stream, connection.peer(), refusal).await;
                return Ok(());
            }
        };
        self.0.counts.add(Fate::Passed);
        if pass(stream, upstream, &hello, idle).await? == End::Expired {
            debug!(%connection, "a connection outstayed its time limit");
            connection.close(CloseReason::Idle);
        }
        Ok(())
    }
}

impl Inner {
    /// Reads the first message, and connects to the server that it names. Returns `None` if the
    /// client left before the message, or the connection was cancelled before it.
    async fn open(
        &self,
        stream: &mut RawStream,
        limit: Duration,
        connection: &Connection,
    ) -> Result<Option<(TcpStream, Vec<u8>)>, Refusal> {
        let refusal = |fate| move |error: BoxError| Refusal { fate, error };
        let read = timeout(limit, read_hello(stream, connection)).await;
        let read = read
            .unwrap_or_else(|_| Err("it did not come in time".into()))
            .map_err(refusal(Fate::NoHello))?;
        let Some((name, hello)) = read else {
            return Ok(None);
        };
        let name = name.ok_or_else(|| refusal(Fate::NoName)("there is no name".into()))?;
        let address = self
            .address_of(&name)
            .ok_or_else(|| refusal(Fate::NotAllowed)(format!("{name} is not allowed").into()))?;
        let upstream = timeout(self.connect, TcpStream::connect(&address))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|error| refusal(Fate::Unreachable)(format!("{address}: {error}").into()))?;
        if let Err(error) = upstream.set_nodelay(true) {
            debug!(address, %error, "TCP_NODELAY was not set");
        }
        debug!(name, address, "a TLS connection is passed on");
        connection.set_description(move || format!("to {name}"));
        Ok(Some((upstream, hello)))
    }

    fn address_of(&self, name: &str) -> Option<String> {
        let allowed = self
            .allow
            .iter()
            .find(|allowed| allowed.name.matches(name))?;
        let to = allowed.to.clone();
        Some(to.unwrap_or_else(|| format!("{name}:443")))
    }

    async fn refuse(&self, mut stream: RawStream, peer: &Peer, refusal: Refusal) {
        let Refusal { fate, error } = refusal;
        let refused = self.counts.add(fate);
        if self.complaints.allows() {
            let reason = fate.name();
            warn!(%peer, reason, refused, error = &*error as &dyn std::error::Error, "TLS connection refused");
        }
        if fate != Fate::NoHello {
            // Ignores an error: a client that does not read the alert still sees that the
            // connection is closed.
            let _ = stream.write_all(&UNRECOGNIZED_NAME).await;
        }
        let _ = stream.shutdown().await;
    }
}

/// Reads the client's first message (ClientHello). Returns its bytes, and its server name, if it
/// has one. Returns `None` if nothing had arrived when the client left or the connection was
/// cancelled.
async fn read_hello(
    stream: &mut RawStream,
    connection: &Connection,
) -> Result<Option<(Option<String>, Vec<u8>)>, BoxError> {
    let mut acceptor = Acceptor::default();
    let mut hello = Vec::with_capacity(1024);
    loop {
        let before = hello.len();
        let read = tokio::select! {
            biased;
            read = stream.read_buf(&mut hello) => read?,
            _ = connection.cancelled(), if before == 0 => 0,
        };
        if read == 0 && before == 0 {
            return Ok(None);
        }
        if read == 0 || hello.len() > LONGEST_HELLO {
            return Err("the first message was incomplete or too long".into());
        }
        let mut fresh = &hello[before..];
        while !fresh.is_empty() {
            if acceptor.read_tls(&mut fresh)? == 0 {
                break;
            }
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                let name = accepted.client_hello().server_name().map(str::to_owned);
                return Ok(Some((name, hello)));
            }
            Ok(None) => {}
            Err((error, _)) => return Err(error.into()),
        }
    }
}

/// The way in which a connection that was passed on has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    /// The client and the server have closed the connection.
    Closed,
    /// No byte has passed within the time limit.
    Expired,
}

/// Relays bytes until the client and the server have closed, or no byte has passed for `idle`.
async fn pass(
    stream: RawStream,
    mut upstream: TcpStream,
    hello: &[u8],
    idle: Duration,
) -> io::Result<End> {
    let activity = LastActivity::default();
    let mut client = Watched {
        stream,
        activity: &activity,
    };
    let relayed = async {
        upstream.write_all(hello).await?;
        copy_bidirectional(&mut client, &mut upstream).await
    };
    tokio::select! {
        biased;
        ended = relayed => ended.map(|_| End::Closed),
        () = activity.silent_for(idle) => Ok(End::Expired),
    }
}

/// A client's stream. It records the times of bytes in both directions.
struct Watched<'a> {
    stream: RawStream,
    activity: &'a LastActivity,
}

impl AsyncRead for Watched<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.activity.touch();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.activity.touch();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

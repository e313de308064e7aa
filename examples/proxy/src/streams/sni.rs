//! TLS connections passed on by the name that their clients ask for (RFC 6066
//! §3), without being decrypted: who may go where is read from the first message,
//! and nothing else is.

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

use crate::config::{Allowed, Timeouts};
use crate::streams::heard::Heard;

/// The longest first message that is read.
const LONGEST_HELLO: usize = 64 * 1024;

/// A fatal alert: unrecognized_name (RFC 8446 §6).
const UNRECOGNIZED_NAME: [u8; 7] = [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x70];

/// Passes TLS connections on. A cheap clone.
#[derive(Clone, Debug)]
pub struct Passthrough(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    allow: Vec<Allowed>,
    connect: Duration,
    /// For the first message.
    hello: Duration,
    /// Without a byte in either direction.
    idle: Duration,
    counts: Counts,
    complaints: Throttle,
}

/// Numbers about TLS connections. A cheap clone.
#[derive(Clone, Debug, Default)]
pub struct Counts(Arc<[AtomicU64; 5]>);

/// The fate of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(usize)]
pub enum Fate {
    /// The connection was passed on.
    Passed,
    /// The first bytes were no TLS, or did not come in time.
    NoHello,
    /// The client asked for no name.
    NoName,
    /// The client asked for a name that is not allowed.
    NotAllowed,
    /// The server of that name could not be reached.
    Unreachable,
}

impl Fate {
    /// All fates.
    pub const ALL: [Self; 5] = [
        Self::Passed,
        Self::NoHello,
        Self::NoName,
        Self::NotAllowed,
        Self::Unreachable,
    ];

    /// Returns its name, for logs and labels.
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
    /// Returns how many connections had this fate.
    #[must_use]
    pub fn of(&self, fate: Fate) -> u64 {
        self.0[fate as usize].load(Ordering::Relaxed)
    }

    fn add(&self, fate: Fate) -> u64 {
        self.0[fate as usize].fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// Why a connection was not passed on.
struct Refusal {
    fate: Fate,
    error: BoxError,
}

impl Passthrough {
    /// Passes connections on to the servers of `allow`.
    #[must_use]
    pub fn new(allow: &[Allowed], timeouts: &Timeouts) -> Self {
        Self(Arc::new(Inner {
            allow: allow.to_vec(),
            connect: timeouts.connect.duration(),
            hello: timeouts.client_hello.duration(),
            idle: timeouts.idle.duration(),
            counts: Counts::default(),
            complaints: Throttle::default(),
        }))
    }

    /// The numbers, now and later.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.0.counts.clone()
    }

    /// Serves a connection until it ends.
    ///
    /// # Errors
    ///
    /// When it broke while it was passed on.
    pub async fn serve(
        self,
        mut stream: RawStream,
        connection: Connection,
    ) -> Result<(), BoxError> {
        connection.set_protocol("TLS");
        // `pass` limits the silence by itself.
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
    /// Reads the first message, and connects to the server it asks for. None if
    /// the client left, or the end came, before the message.
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
            // Best effort: whoever does not read it learns of the close.
            let _ = stream.write_all(&UNRECOGNIZED_NAME).await;
        }
        let _ = stream.shutdown().await;
    }
}

/// Reads a ClientHello: the name in it, if there is one, and its bytes. None if
/// nothing had arrived when the client left or the end came.
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
            return Err("it ended within its first message, or that did not end".into());
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

/// How a connection that was passed on ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    /// Both sides have ended.
    Closed,
    /// No byte has passed for too long.
    Expired,
}

/// Relays until both have ended, or no byte has passed for `idle`.
async fn pass(
    stream: RawStream,
    mut upstream: TcpStream,
    hello: &[u8],
    idle: Duration,
) -> io::Result<End> {
    let heard = Heard::default();
    let mut client = Watched {
        stream,
        heard: &heard,
    };
    let relayed = async {
        upstream.write_all(hello).await?;
        copy_bidirectional(&mut client, &mut upstream).await
    };
    tokio::select! {
        biased;
        ended = relayed => ended.map(|_| End::Closed),
        () = heard.silent_for(idle) => Ok(End::Expired),
    }
}

/// A client's stream that tells when bytes pass.
struct Watched<'a> {
    stream: RawStream,
    heard: &'a Heard,
}

impl AsyncRead for Watched<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.heard.touch();
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
        self.heard.touch();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

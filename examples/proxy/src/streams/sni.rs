//! TLS connections passed on by the name that their clients ask for (RFC 6066
//! §3), without being decrypted: who may go where is read from the first message,
//! and nothing else is.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lifecycle_runtime::{BoxError, Connection};
use rustls::server::Acceptor;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::config::{Allowed, Timeouts};
use crate::inbound::activity::{Activity, Limits, Watched};
use crate::inbound::connection::{End, Serve};
use crate::protection::load::Load;
use crate::telemetry::logging::Throttle;

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
    load: Arc<Load>,
    counts: Counts,
    complaints: Throttle,
}

/// Numbers about TLS connections. A cheap clone.
#[derive(Clone, Debug, Default)]
pub struct Counts(Arc<[AtomicU64; 5]>);

/// What became of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(usize)]
pub enum Fate {
    /// It was passed on.
    Passed,
    /// What came first was no TLS, or not in time.
    NoHello,
    /// The client asked for no name.
    NoName,
    /// The client asked for a name that is not allowed.
    NotAllowed,
    /// Who has the name could not be reached.
    Unreachable,
}

impl Fate {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Passed,
        Self::NoHello,
        Self::NoName,
        Self::NotAllowed,
        Self::Unreachable,
    ];

    /// Its name, for logs and labels.
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
    /// How many had this fate.
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
    pub fn new(allow: &[Allowed], timeouts: &Timeouts, load: Arc<Load>) -> Self {
        Self(Arc::new(Inner {
            allow: allow.to_vec(),
            connect: timeouts.connect.duration(),
            load,
            counts: Counts::default(),
            complaints: Throttle::default(),
        }))
    }

    /// The numbers, now and later.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.0.counts.clone()
    }
}

impl Serve for Passthrough {
    async fn serve(
        self,
        mut stream: TcpStream,
        addresses: (SocketAddr, SocketAddr),
        limits: Limits,
        connection: Connection,
    ) -> End {
        connection.set_protocol("TLS");
        let opened = self
            .0
            .open(&mut stream, limits.header_read_timeout, &connection);
        let (upstream, hello) = match opened.await {
            Ok(Some(opened)) => opened,
            Ok(None) => return End::Closed,
            Err(refusal) => {
                self.0.refuse(stream, addresses.0, refusal).await;
                return End::Closed;
            }
        };
        self.0.counts.add(Fate::Passed);
        pass(stream, upstream, &hello, limits).await
    }

    fn admits(&self) -> bool {
        self.0.load.admits()
    }
}

impl Inner {
    /// Reads the first message, and connects to the server it asks for. None if
    /// the client left, or the end came, before the message.
    async fn open(
        &self,
        stream: &mut TcpStream,
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

    async fn refuse(&self, mut stream: TcpStream, peer: SocketAddr, refusal: Refusal) {
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
    stream: &mut TcpStream,
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

/// Relays until both have ended, or no byte has passed for too long.
async fn pass(stream: TcpStream, mut upstream: TcpStream, hello: &[u8], limits: Limits) -> End {
    let activity = Arc::new(Activity::new(limits));
    activity.answered();
    let mut client = Watched::new(stream, activity.clone());
    let relayed = async {
        upstream.write_all(hello).await?;
        copy_bidirectional(&mut client, &mut upstream).await
    };
    let mut relayed = std::pin::pin!(relayed);
    tokio::select! {
        biased;
        ended = relayed.as_mut() => match ended {
            Ok(_) => End::Closed,
            Err(error) => End::Failed(error.into()),
        },
        () = activity.expired() => End::Expired,
    }
}

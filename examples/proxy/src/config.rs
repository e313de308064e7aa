//! The configuration file: YAML, every field optional, unknown fields refused.
//! Each type refuses what cannot work while it is read, so that the message
//! carries the line.

mod admin;
mod bounds;
pub mod discovery;
mod error;
mod feed;
mod file;
pub mod hosts;
mod limits;
mod mistake;
mod program;
mod restart;
mod route;
mod saved_state;
mod sessions;
mod streams;
mod telemetry;
mod timeouts;
mod upstream;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer};

use timeouts::shutdown_seconds;

pub use admin::{Admin, Secret, Token, UnusableToken};
pub use discovery::Discovery;
pub use error::ConfigError;
pub use feed::{Feed, FeedUrl};
pub use limits::{Bounds, Breaker, Limits};
pub use program::Stdio;
pub use restart::Restart;
pub use route::{Health, PathPrefix, Route, Target};
pub use saved_state::{Audit, State};
pub use sessions::{Sessions, Sticky, StickyBy};
pub use streams::{Allowed, Tls, WebSocket};
pub use telemetry::{Metrics, Recorder};
pub use timeouts::{Seconds, Timeouts};
pub use upstream::{BadUpstream, Upstream};

/// The most that `shutdown_timeout` may ask for.
pub const LONGEST_SHUTDOWN: Duration = Duration::from_secs(3600);

/// The largest file, in bytes.
const LARGEST: u64 = 16 << 20;

/// Everything the proxy can be told.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where clients connect.
    #[serde(deserialize_with = "addresses")]
    pub listen_addrs: Vec<SocketAddr>,
    /// Where requests go that no route is for. Without one and without routes, a
    /// demo upstream is started.
    pub upstream: Option<Upstream>,
    /// Where some requests go.
    pub routes: Vec<Route>,
    /// When an upstream that fails is left alone.
    pub breaker: Breaker,
    /// When load is shed.
    pub limits: Limits,
    /// WebSocket connections.
    pub websocket: WebSocket,
    /// TLS connections, passed on as they are.
    pub tls: Tls,
    /// Keep what `X-Forwarded-Proto` and `-Host` already say. For a proxy that
    /// stands behind another one of the same owner.
    pub trust_forwarded: bool,
    /// How long the parts of a connection may take.
    pub timeouts: Timeouts,
    /// Client connections served at the same time; the next one is refused.
    #[serde(deserialize_with = "bounds::positive::<_, _, 1000000>")]
    pub max_connections: NonZeroUsize,
    /// The whole shutdown, in seconds.
    #[serde(deserialize_with = "shutdown_seconds")]
    pub shutdown_timeout: Seconds,
    /// How long it goes on serving, unready, once it was told to stop, since those
    /// who send work learn of it late.
    pub lame_duck: Option<Seconds>,
    /// How a new process takes over.
    pub restart: Restart,
    /// The admin listener.
    pub admin: Admin,
    /// The numbers.
    pub metrics: Metrics,
    /// The traffic tape.
    pub recorder: Recorder,
    /// How others learn of it.
    pub discovery: Discovery,
    /// What it remembers at its next start.
    pub state: State,
    /// What is written of every shutdown.
    pub audit: Audit,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen_addrs: vec![SocketAddr::from(([127, 0, 0, 1], 8080))],
            upstream: None,
            routes: Vec::new(),
            breaker: Breaker::default(),
            limits: Limits::default(),
            websocket: WebSocket::default(),
            tls: Tls::default(),
            trust_forwarded: false,
            timeouts: Timeouts::default(),
            max_connections: const { NonZeroUsize::new(10_000).unwrap() },
            shutdown_timeout: Seconds(30),
            lame_duck: None,
            admin: Admin::default(),
            restart: Restart::default(),
            metrics: Metrics::default(),
            recorder: Recorder::default(),
            discovery: Discovery::default(),
            state: State::default(),
            audit: Audit::default(),
        }
    }
}

fn addresses<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<SocketAddr>, D::Error> {
    let addresses = Vec::deserialize(from)?;
    if addresses.is_empty() {
        return Err(de::Error::custom(
            "`listen_addrs` names no address; leave it out for 127.0.0.1:8080",
        ));
    }
    Ok(addresses)
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// When it cannot be read, is no regular file, is larger than 16 MiB, is not YAML, or
    /// says what cannot be done.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = file::read(path, LARGEST)
            .map_err(|error| ConfigError::Unreadable(path.to_owned(), error))?;
        Self::parse(&text).map_err(|fault| {
            // The parser was given a text, so it does not know the file's name.
            let fault = fault.replace("<input>", &path.display().to_string());
            ConfigError::Invalid(path.to_owned(), fault)
        })
    }

    /// So many hundredths of the time that the shutdown may take.
    #[must_use]
    pub fn share(&self, hundredths: u32) -> Duration {
        self.shutdown_timeout.duration() * hundredths / 100
    }

    /// Where the admin listener is, if there is to be one.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        let enabled = self.admin.enabled || self.metrics.enabled;
        enabled.then(|| self.admin_place())
    }

    /// Where the admin listener is, or would be.
    pub(crate) fn admin_place(&self) -> SocketAddr {
        self.admin.address.unwrap_or(self.metrics.address)
    }

    fn parse(text: &str) -> Result<Self, String> {
        // An empty document is null to YAML, and "all defaults" to people.
        let config: Option<Self> =
            serde_saphyr::from_str(text).map_err(|error| mistake::describe(&error))?;
        Ok(config.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests;

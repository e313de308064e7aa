//! The configuration file in YAML. Every field is optional, and unknown fields are refused. Each
//! type rejects invalid values while it is parsed, so that the error message contains the line.

mod admin;
mod error;
mod feed;
mod file;
mod limits;
mod metrics;
mod mistake;
mod restart;
mod route;
mod saved_state;
mod sticky;
mod timeouts;
mod upstream;
mod websocket;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::Path;
use std::thread::available_parallelism;
use std::time::Duration;

use lifecycle_proxy_common::bounds;
use serde::Deserialize;
use serde::de::{self, Deserializer};

use timeouts::shutdown_seconds;

pub use admin::{Admin, Secret, Token, UnusableToken};
pub use error::ConfigError;
pub use feed::{Feed, FeedUrl};
pub use lifecycle_proxy_common::Seconds;
pub use lifecycle_proxy_discovery::settings::Settings as Discovery;
pub use lifecycle_proxy_passthrough::settings::Settings as Tls;
pub use lifecycle_proxy_programs::settings::Settings as Stdio;
pub use lifecycle_proxy_records::tape::Settings as Recorder;
pub use limits::{Bounds, Breaker, Limits};
pub use metrics::Metrics;
pub use restart::Restart;
pub use route::{Health, PathPrefix, Route, Target};
pub use saved_state::{Audit, State};
pub use sticky::{Sticky, StickyBy};
pub use timeouts::Timeouts;
pub use upstream::{BadUpstream, Upstream};
pub use websocket::WebSocket;

/// The largest value that `shutdown_timeout` accepts.
pub const LONGEST_SHUTDOWN: Duration = Duration::from_secs(3600);

/// The size of the largest configuration file, in bytes.
const LARGEST: u64 = 16 << 20;

/// The whole configuration of the proxy.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The addresses that clients connect to.
    #[serde(deserialize_with = "addresses")]
    pub listen_addrs: Vec<SocketAddr>,
    /// The upstream for requests without a route. With neither `upstream` nor `routes`, a demo
    /// upstream starts.
    pub upstream: Option<Upstream>,
    /// The routes, each of which sends matching requests to a target.
    pub routes: Vec<Route>,
    /// The settings of the circuit breaker of each upstream.
    pub breaker: Breaker,
    /// The limits from which on the proxy refuses requests or closes connections.
    pub limits: Limits,
    /// The settings of WebSocket connections.
    pub websocket: WebSocket,
    /// The settings of TLS connections, which are passed on undecrypted.
    pub tls: Tls,
    /// Whether to keep `X-Forwarded-Proto` and `X-Forwarded-Host` of a request. Set it only if all
    /// requests come from another proxy of the same owner, since a client could set these fields,
    /// too.
    pub trust_forwarded: bool,
    /// Time limits of connections and requests.
    pub timeouts: Timeouts,
    /// The largest number of client connections at the same time. Further connections are refused.
    #[serde(deserialize_with = "bounds::positive::<_, _, 1000000>")]
    pub max_connections: NonZeroUsize,
    /// The number of threads that serve clients. A client's connection stays on its thread, and so do
    /// the connections that its requests use. Default: the number of processors.
    #[serde(deserialize_with = "bounds::positive::<_, _, 1024>")]
    pub worker_threads: NonZeroUsize,
    /// The time limit of the whole shutdown, in seconds.
    #[serde(deserialize_with = "shutdown_seconds")]
    pub shutdown_timeout: Seconds,
    /// The time for which the proxy goes on serving after a shutdown was requested, while its
    /// readiness probe fails. Load balancers notice the failure in this time.
    pub lame_duck: Option<Seconds>,
    /// The settings of a restart, in which the proxy hands over to a new process.
    pub restart: Restart,
    /// The settings of the admin listener.
    pub admin: Admin,
    /// The settings of the metrics.
    pub metrics: Metrics,
    /// The settings of the traffic tape.
    pub recorder: Recorder,
    /// The settings of announcements to registries and peers.
    pub discovery: Discovery,
    /// The settings of the state that is saved for the next start.
    pub state: State,
    /// The settings of the audit trail, which records each shutdown.
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
            worker_threads: available_parallelism().unwrap_or(NonZeroUsize::MIN),
            shutdown_timeout: Seconds::of(30),
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
    /// Reads a configuration file.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, is no regular file, is larger than 16 MiB, is not YAML, or has
    /// an invalid value.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = file::read(path, LARGEST)
            .map_err(|error| ConfigError::Unreadable(path.to_owned(), error))?;
        Self::parse(&text).map_err(|fault| {
            // Inserts the file's name, which the parser does not know, since it was given a text.
            let fault = fault.replace("<input>", &path.display().to_string());
            ConfigError::Invalid(path.to_owned(), fault)
        })
    }

    /// Returns this many hundredths of `shutdown_timeout`.
    #[must_use]
    pub fn share(&self, hundredths: u32) -> Duration {
        self.shutdown_timeout.duration() * hundredths / 100
    }

    /// Returns the address of the admin listener, if it is enabled.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        let enabled = self.admin.enabled || self.metrics.enabled;
        enabled.then(|| self.configured_admin_address())
    }

    /// Returns the configured address of the admin listener, enabled or not.
    pub(crate) fn configured_admin_address(&self) -> SocketAddr {
        self.admin.address.unwrap_or(self.metrics.address)
    }

    fn parse(text: &str) -> Result<Self, String> {
        // YAML parses an empty document as null, which means here that all fields have their
        // defaults.
        let config: Option<Self> =
            serde_saphyr::from_str(text).map_err(|error| mistake::describe(&error))?;
        Ok(config.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests;

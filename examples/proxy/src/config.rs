//! The configuration file: YAML, every field optional, unknown fields refused.
//! Each type refuses what cannot work while it is read, so that the message
//! carries the line.

mod admin;
mod bounds;
pub mod discovery;
mod feed;
mod file;
pub mod hosts;
mod mistake;
mod restart;
mod saved_state;
mod sessions;

use std::fmt;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use hyper::http::uri::{Authority, Uri};
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize};

use crate::config::hosts::{HostPattern, is_plain};

pub use admin::{Admin, Secret, Token, UnusableToken};
pub use discovery::Discovery;
pub use feed::{Feed, FeedUrl};
pub use restart::Restart;
pub use saved_state::{Audit, State};
pub use sessions::{Sessions, Sticky, StickyBy};

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

/// Time limits, each in whole seconds.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// To connect to the upstream.
    pub connect: Seconds,
    /// From a client's connect to its first byte, and from a request's first
    /// byte to the end of its head.
    pub client_hello: Seconds,
    /// A client connection without a byte in either direction, between
    /// requests or within one.
    pub idle: Seconds,
    /// From the last byte of a request to the head of the upstream's response.
    pub response: Seconds,
    /// An unused connection to the upstream.
    pub pool_idle: Seconds,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Seconds(10),
            client_hello: Seconds(10),
            idle: Seconds(60),
            response: Seconds(60),
            pool_idle: Seconds(30),
        }
    }
}

/// The numbers, and the older way to say where they are served.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// Whether the admin listener is started.
    pub enabled: bool,
    /// Where that listens, unless `admin` says it.
    pub address: SocketAddr,
    /// Where the last values are saved, as JSON, when the proxy ends.
    pub file: Option<PathBuf>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            enabled: false,
            address: admin::ADDRESS,
            file: None,
        }
    }
}

/// The traffic tape.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Recorder {
    /// The file that is appended to, one JSON object a line. Without one,
    /// nothing is recorded.
    pub path: Option<PathBuf>,
    /// Entries that may wait for the disk; those beyond are dropped and counted.
    #[serde(deserialize_with = "bounds::positive::<_, _, 1000000>")]
    pub queue: NonZeroUsize,
    /// A file that would become longer is put aside, under its name and `.1`.
    /// Without a limit it only grows.
    #[serde(deserialize_with = "bounds::optional::<_, _, 1125899906842624>")]
    pub max_bytes: Option<NonZeroU64>,
    /// How many files are kept aside.
    #[serde(deserialize_with = "bounds::natural::<_, _, 1000>")]
    pub keep: u32,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            path: None,
            queue: const { NonZeroUsize::new(4096).unwrap() },
            max_bytes: None,
            keep: 5,
        }
    }
}

/// Some requests, and where they go.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(try_from = "RouteFields")]
pub struct Route {
    /// The host they are for; any, if there is none.
    pub host: Option<HostPattern>,
    /// What their path begins with.
    pub path: PathPrefix,
    /// Where they go.
    pub target: Target,
    /// Whether a client is always sent to the same one of several upstreams.
    pub sticky: Option<Sticky>,
}

/// Where requests go.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// To one of these, which are looked after.
    Upstreams(Vec<Upstream>, Option<Health>),
    /// To a program.
    Stdio(Stdio),
    /// To a stream of events that all clients share.
    Feed(Feed),
}

/// A route as the file says it.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RouteFields {
    host: Option<HostPattern>,
    path: PathPrefix,
    upstreams: Vec<Upstream>,
    health: Option<Health>,
    stdio: Option<Stdio>,
    feed: Option<Feed>,
    sticky: Option<Sticky>,
}

impl TryFrom<RouteFields> for Route {
    type Error = &'static str;

    fn try_from(fields: RouteFields) -> Result<Self, Self::Error> {
        let upstreams = Some(fields.upstreams).filter(|upstreams| !upstreams.is_empty());
        if upstreams.is_none() && fields.health.is_some() {
            return Err("`health` is for `upstreams`");
        }
        if upstreams.is_none() && fields.sticky.is_some() {
            return Err("`sticky` is for `upstreams`");
        }
        let target = match (upstreams, fields.stdio, fields.feed) {
            (Some(upstreams), None, None) => Target::Upstreams(upstreams, fields.health),
            (None, Some(stdio), None) => Target::Stdio(stdio),
            (None, None, Some(feed)) => Target::Feed(feed),
            (None, None, None) => return Err("a route needs `upstreams`, `stdio` or `feed`"),
            _ => return Err("`upstreams`, `stdio` and `feed` exclude each other"),
        };
        Ok(Self {
            host: fields.host,
            path: fields.path,
            target,
            sticky: fields.sticky,
        })
    }
}

/// How upstreams are asked whether they are well.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// What is asked for; a status below 400 is good news.
    pub path: PathPrefix,
    /// How often.
    #[serde(default = "Health::interval")]
    pub interval: Seconds,
}

impl Health {
    const fn interval() -> Seconds {
        Seconds(5)
    }
}

/// The beginning of a path: whole segments of it, so that `/api` is `/api` and
/// `/api/x`, but not `/apix`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PathPrefix(String);

impl PathPrefix {
    /// Whether `path` begins with it.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let Some(rest) = path.strip_prefix(&*self.0) else {
            return false;
        };
        rest.is_empty() || rest.starts_with('/') || self.0.ends_with('/')
    }

    /// How much it says.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never: it begins with a slash.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for PathPrefix {
    fn default() -> Self {
        Self("/".into())
    }
}

impl FromStr for PathPrefix {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = |byte: u8| byte.is_ascii_graphic() && !b"?#".contains(&byte);
        if text.starts_with('/') && text.bytes().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err("a path begins with `/`, and has no query")
        }
    }
}

impl<'de> Deserialize<'de> for PathPrefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// When an upstream that fails is left alone.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Breaker {
    /// Failures in a row until it is.
    #[serde(deserialize_with = "bounds::positive::<_, _, 1000000>")]
    pub failures: NonZeroU32,
    /// For how long at first; the time doubles with each trial that fails.
    pub open: Seconds,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            failures: const { NonZeroU32::new(5).unwrap() },
            open: Seconds(2),
        }
    }
}

/// What the process may use. Above a soft limit connections are not kept for
/// another request, from the hard one on requests are refused.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Open file descriptors. Without limits, 85 and 95 % of what is allowed.
    pub open_files: Option<Bounds>,
    /// Resident memory, in MiB.
    pub memory_mib: Option<Bounds>,
    /// Tasks of the runtime.
    pub tasks: Option<Bounds>,
    /// Client connections.
    pub connections: Option<Bounds>,
    /// Sessions of clients, of all routes together.
    pub sessions: Option<Bounds>,
}

/// What a limit can be.
const MOST_OF_ANYTHING: u64 = 1_000_000_000_000;

/// Two limits of the same thing.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(try_from = "BoundsFields")]
pub struct Bounds {
    /// The lower one.
    pub soft: u64,
    /// The upper one.
    pub hard: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BoundsFields {
    soft: u64,
    hard: u64,
}

impl TryFrom<BoundsFields> for Bounds {
    type Error = &'static str;

    fn try_from(BoundsFields { soft, hard }: BoundsFields) -> Result<Self, Self::Error> {
        if soft == 0 || soft > hard {
            return Err("`soft` is at least 1 and at most `hard`");
        }
        if hard > MOST_OF_ANYTHING {
            return Err("`hard` is at most 1000000000000");
        }
        Ok(Self { soft, hard })
    }
}

/// WebSocket connections.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct WebSocket {
    /// A client that is silent for so long is sent a ping; one that is silent
    /// for as long again is gone.
    pub ping: Seconds,
}

impl Default for WebSocket {
    fn default() -> Self {
        Self { ping: Seconds(30) }
    }
}

/// TLS connections that are passed on by the name their clients ask for, and
/// not decrypted.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(try_from = "TlsFields")]
pub struct Tls {
    /// Where clients connect; nowhere, if there is none.
    pub listen_addrs: Vec<SocketAddr>,
    /// The names they may ask for. The first that fits counts.
    pub allow: Vec<Allowed>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TlsFields {
    listen_addrs: Vec<SocketAddr>,
    allow: Vec<Allowed>,
}

impl TryFrom<TlsFields> for Tls {
    type Error = &'static str;

    fn try_from(
        TlsFields {
            listen_addrs,
            allow,
        }: TlsFields,
    ) -> Result<Self, Self::Error> {
        if !listen_addrs.is_empty() && allow.is_empty() {
            return Err("`tls.allow` names no host, so nobody could be passed on");
        }
        Ok(Self {
            listen_addrs,
            allow,
        })
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

/// Names of TLS servers, and where those are.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Allowed {
    /// One name, or all under a domain.
    pub name: HostPattern,
    /// `host:port`. Without it, port 443 of the name itself.
    #[serde(default, deserialize_with = "host_and_port")]
    pub to: Option<String>,
}

fn host_and_port<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let Some(text) = Option::<String>::deserialize(from)? else {
        return Ok(None);
    };
    let authority = Authority::try_from(text.as_str()).ok();
    let good = authority
        .is_some_and(|authority| authority.port_u16().is_some() && can_connect_to(&authority));
    if good {
        Ok(Some(text))
    } else {
        Err(de::Error::custom(
            "it is a host and a port, from 1 to 65535: host:port",
        ))
    }
}

/// A program that answers JSON-RPC, a message a line, on its standard streams.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Stdio {
    /// The program and its arguments.
    #[serde(deserialize_with = "command")]
    pub command: Vec<String>,
    /// Processes that may run at the same time.
    #[serde(
        deserialize_with = "bounds::positive::<_, _, 1000>",
        default = "Stdio::processes"
    )]
    pub processes: NonZeroUsize,
    /// An unused process is ended after this, in seconds.
    #[serde(default = "Stdio::idle")]
    pub idle: Seconds,
    /// What a process has to end by itself once its input is closed, and again
    /// after SIGTERM.
    #[serde(default = "Stdio::stop")]
    pub stop: Seconds,
    /// The longest message, in bytes.
    #[serde(
        deserialize_with = "bounds::positive::<_, _, 1073741824>",
        default = "Stdio::max_message"
    )]
    pub max_message: NonZeroUsize,
    /// Whether a client may have a process of its own.
    pub sessions: Option<Sessions>,
}

impl Stdio {
    /// The defaults for `command`.
    #[must_use]
    pub const fn new(command: Vec<String>) -> Self {
        Self {
            command,
            processes: Self::processes(),
            idle: Self::idle(),
            stop: Self::stop(),
            max_message: Self::max_message(),
            sessions: None,
        }
    }

    const fn processes() -> NonZeroUsize {
        const { NonZeroUsize::new(4).unwrap() }
    }

    const fn idle() -> Seconds {
        Seconds(300)
    }

    const fn stop() -> Seconds {
        Seconds(2)
    }

    const fn max_message() -> NonZeroUsize {
        const { NonZeroUsize::new(1 << 20).unwrap() }
    }
}

fn command<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let command = Vec::<String>::deserialize(deserializer)?;
    if command.first().is_none_or(String::is_empty) {
        return Err(de::Error::custom("a command needs a program"));
    }
    Ok(command)
}

/// A whole number of seconds, from one to a year of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Seconds(u64);

impl Seconds {
    #[cfg(test)]
    pub(crate) const fn of(seconds: u64) -> Self {
        Self(seconds)
    }

    /// As the standard library says it.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_secs(self.0)
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds: NonZeroU64 = bounds::positive::<_, _, A_YEAR>(deserializer)?;
        Ok(Self(seconds.get()))
    }
}

/// The longest time, in seconds.
const A_YEAR: u64 = 365 * 24 * 3600;

fn shutdown_seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Seconds, D::Error> {
    let seconds = Seconds::deserialize(deserializer)?;
    if seconds.duration() > LONGEST_SHUTDOWN {
        return Err(de::Error::custom("it is at most 3600 seconds"));
    }
    Ok(seconds)
}

/// The server that requests are passed to: `http://host[:port]`, or `h2c://` for
/// HTTP/2 without TLS.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Upstream {
    authority: Authority,
    http2: bool,
}

impl Upstream {
    /// Its host and port.
    #[must_use]
    pub const fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Whether it is spoken to in HTTP/2.
    #[must_use]
    pub const fn is_http2(&self) -> bool {
        self.http2
    }
}

impl From<SocketAddr> for Upstream {
    fn from(address: SocketAddr) -> Self {
        let authority = Authority::try_from(address.to_string());
        Self {
            authority: authority.expect("a socket address is an authority"),
            http2: false,
        }
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.http2 { "h2c" } else { "http" };
        write!(f, "{scheme}://{}", self.authority)
    }
}

/// What is wrong with an upstream's address. The address is not told: it can hold a
/// password.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BadUpstream(&'static str);

impl fmt::Display for BadUpstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(fault) = self;
        write!(f, "this is no upstream: {fault}; write http://host:port")
    }
}

impl std::error::Error for BadUpstream {}

impl FromStr for Upstream {
    type Err = BadUpstream;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = BadUpstream;
        // The parser would leave it out.
        if text.contains('#') {
            return Err(bad("a fragment cannot be given"));
        }
        let uri: Uri = text.parse().map_err(|_| bad("it is not a URL"))?;
        let http2 = match uri.scheme_str() {
            Some("http") => false,
            Some("h2c") => true,
            Some("https") => return Err(bad("TLS to the upstream is not supported")),
            _ => return Err(bad("it does not begin with http:// or h2c://")),
        };
        if uri.path() != "/" || uri.query().is_some() {
            return Err(bad("a path cannot be given"));
        }
        match uri.into_parts().authority {
            Some(authority) if authority.as_str().contains('@') => {
                Err(bad("a user name cannot be given"))
            }
            Some(authority) if authority.host().is_empty() => Err(bad("it names no host")),
            Some(authority) if !can_connect_to(&authority) => {
                Err(bad("the port is a number from 1 to 65535"))
            }
            Some(authority) => Ok(Self { authority, http2 }),
            _ => Err(bad("it names no host")),
        }
    }
}

/// Whether the port, if one is given, is one that somebody can listen on.
fn can_connect_to(authority: &Authority) -> bool {
    let is_bare = authority.as_str() == authority.host();
    is_bare || (is_plain(authority) && authority.port_u16().is_some_and(|port| port > 0))
}

impl<'de> Deserialize<'de> for Upstream {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// Why a configuration file could not be used.
#[derive(Debug)]
pub enum ConfigError {
    /// It could not be read.
    Unreadable(PathBuf, std::io::Error),
    /// It was read, and is wrong at the line that the text names.
    Invalid(PathBuf, String),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(path, error) => {
                write!(
                    f,
                    "cannot read the configuration {}: {error}",
                    path.display()
                )
            }
            Self::Invalid(path, text) => {
                write!(
                    f,
                    "the configuration {} is not valid: {text}",
                    path.display()
                )
            }
        }
    }
}

impl std::error::Error for ConfigError {}

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
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_all_defaults() {
        for text in ["", "# nothing\n", "---\n"] {
            assert_eq!(Config::parse(text).unwrap(), Config::default(), "{text:?}");
        }
    }

    #[test]
    fn a_file_with_only_the_older_fields_loads() {
        let config = Config::parse(
            "listen_addrs:\n  - 0.0.0.0:8443\n  - \"[::]:8443\"\n\
             timeouts:\n  connect: 5\n  client_hello: 3\n  idle: 120\n\
             metrics:\n  enabled: true\n  address: 127.0.0.1:9100\n",
        )
        .unwrap();
        assert_eq!(config.listen_addrs.len(), 2);
        assert_eq!(config.timeouts.connect, Seconds(5));
        assert_eq!(config.timeouts.client_hello, Seconds(3));
        assert_eq!(config.timeouts.idle, Seconds(120));
        assert!(config.metrics.enabled);
        assert_eq!(config.metrics.address.port(), 9100);
        assert_eq!(config.max_connections.get(), 10_000);
        assert_eq!(config.shutdown_timeout, Seconds(30));
        assert_eq!(config.upstream, None);
        assert_eq!(config.recorder, Recorder::default());
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        for (text, line, part) in [
            (
                "max_connections: 5\nshutdown_timeot: 3\n",
                "line 2",
                "shutdown_timeot",
            ),
            ("timeouts:\n  idle: soon\n", "line 2", "a whole number"),
            (
                "timeouts:\n  connect: 1\n  idle: 0\n",
                "line 3",
                "from 1 to",
            ),
            ("max_connections: 0\n", "line 1", "from 1 to 1000000"),
            ("\nshutdown_timeout: 4000\n", "line 2", "3600"),
            ("\n\nupstream: https://a\n", "line 3", "TLS"),
            ("listen_addrs: [nowhere]\n", "line 1", "socket address"),
            ("recorder:\n  path: a\n  path: b\n", "line 3", "twice"),
            ("metrics: [\n", "line", ""),
            (
                "routes:\n  - path: /a\n",
                "line 2",
                "`upstreams`, `stdio` or `feed`",
            ),
            ("routes:\n  - path: a\n", "line 2", "begins with `/`"),
            (
                "routes:\n  - upstreams: [http://a]\n    stdio: {command: [b]}\n",
                "line 2",
                "exclude each other",
            ),
            ("routes:\n  - stdio: {command: []}\n", "line 2", "program"),
            (
                "routes:\n  - upstreams: [http://a]\n    sticky: {cookie: a b}\n",
                "line 3",
                "no name of a cookie",
            ),
            (
                "routes:\n  - feed: {url: http://a}\n    sticky: {header: x}\n",
                "line 2",
                "`sticky` is for `upstreams`",
            ),
            ("routes:\n  - feed: {url: /events}\n", "line 2", "http://"),
            ("routes:\n  - host: a b\n", "line 2", "this is no host"),
            (
                "limits:\n  tasks: {soft: 9, hard: 8}\n",
                "line 2",
                "at most `hard`",
            ),
        ] {
            let message = Config::parse(text).unwrap_err();
            assert!(message.contains(line), "{text:?} gave {message}");
            assert!(message.contains(part), "{text:?} gave {message}");
        }
    }

    #[test]
    fn routes_are_read_with_their_defaults() {
        let config = Config::parse(
            "routes:\n\
             - host: \"*.example\"\n  upstreams: [http://a, h2c://b:1]\n  health: {path: /up}\n\
             - path: /mcp\n  stdio: {command: [server, --quiet], processes: 2}\n",
        )
        .unwrap();
        let [http, stdio] = &config.routes[..] else {
            panic!("{config:?}");
        };
        assert_eq!(http.path.as_str(), "/");
        let Target::Upstreams(upstreams, Some(health)) = &http.target else {
            panic!("{http:?}");
        };
        assert!(!upstreams[0].is_http2() && upstreams[1].is_http2());
        assert_eq!((health.path.as_str(), health.interval), ("/up", Seconds(5)));
        let Target::Stdio(program) = &stdio.target else {
            panic!("{stdio:?}");
        };
        assert_eq!((program.processes.get(), program.idle), (2, Seconds(300)));
    }

    #[test]
    fn lists_that_must_not_be_empty_are_refused_with_their_line() {
        for (text, part) in [
            ("\nlisten_addrs: []\n", "`listen_addrs`"),
            ("\ntls: {listen_addrs: ['127.0.0.1:1']}\n", "`tls.allow`"),
        ] {
            let message = Config::parse(text).unwrap_err();
            assert!(
                message.contains(part) && message.contains("line 2"),
                "{message}"
            );
        }
    }

    #[test]
    fn an_upstream_is_a_scheme_and_an_authority() {
        for good in [
            "http://127.0.0.1:3000",
            "http://app",
            "http://[::1]:80/",
            "h2c://app",
        ] {
            let upstream: Upstream = good.parse().unwrap();
            assert_eq!(upstream.to_string(), good.trim_end_matches('/'));
        }
        for (bad, fault) in [
            ("127.0.0.1:3000", "http://"),
            ("https://app", "TLS"),
            ("http://app/base", "path"),
            ("http://app?x", "path"),
            ("http://me@app", "user"),
            ("/app", "http://"),
            ("not a url", "URL"),
            ("http://app:0", "65535"),
            ("http://app:99999", "65535"),
            ("http://app:", "65535"),
            ("http://app:x", "65535"),
            ("http://app#x", "fragment"),
            ("http://app/#x", "fragment"),
            ("http://:80", "host"),
        ] {
            let error = bad.parse::<Upstream>().unwrap_err().to_string();
            assert!(error.contains(fault), "{bad} gave {error}");
        }
    }
}

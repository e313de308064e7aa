//! The configuration file: YAML, every field optional, unknown fields refused.
//! Each type refuses what cannot work while it is read, so that the message
//! carries the line.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use hyper::http::uri::{Authority, Uri};
use serde::de::{self, Deserializer, Unexpected};
use serde::{Deserialize, Serialize};

/// The most that `shutdown_timeout` may ask for.
pub const LONGEST_SHUTDOWN: Duration = Duration::from_secs(3600);

/// Everything the proxy can be told.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where clients connect.
    pub listen_addrs: Vec<SocketAddr>,
    /// Where requests go. Without one, a demo upstream is started.
    pub upstream: Option<Upstream>,
    /// Keep what `X-Forwarded-Proto` and `-Host` already say. For a proxy that
    /// stands behind another one of the same owner.
    pub trust_forwarded: bool,
    /// How long the parts of a connection may take.
    pub timeouts: Timeouts,
    /// Client connections served at the same time; the next one is refused.
    pub max_connections: NonZeroUsize,
    /// The whole shutdown, in seconds.
    #[serde(deserialize_with = "shutdown_seconds")]
    pub shutdown_timeout: Seconds,
    /// The metrics listener.
    pub metrics: Metrics,
    /// The traffic tape.
    pub recorder: Recorder,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen_addrs: vec![SocketAddr::from(([127, 0, 0, 1], 8080))],
            upstream: None,
            trust_forwarded: false,
            timeouts: Timeouts::default(),
            max_connections: const { NonZeroUsize::new(10_000).unwrap() },
            shutdown_timeout: Seconds(30),
            metrics: Metrics::default(),
            recorder: Recorder::default(),
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

/// The metrics listener and the file that outlives it.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// Whether to listen.
    pub enabled: bool,
    /// Where to listen.
    pub address: SocketAddr,
    /// Where the last values are saved, as JSON, when the proxy ends.
    pub file: Option<PathBuf>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            enabled: false,
            address: SocketAddr::from(([127, 0, 0, 1], 9090)),
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
    pub queue: NonZeroUsize,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            path: None,
            queue: const { NonZeroUsize::new(4096).unwrap() },
        }
    }
}

/// A whole number of seconds, at least one.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Seconds(u64);

impl Seconds {
    /// As the standard library says it.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_secs(self.0)
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            0 => Err(de::Error::invalid_value(
                Unexpected::Unsigned(0),
                &"a whole number of seconds, at least 1",
            )),
            seconds => Ok(Self(seconds)),
        }
    }
}

fn shutdown_seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Seconds, D::Error> {
    let seconds = Seconds::deserialize(deserializer)?;
    if seconds.duration() > LONGEST_SHUTDOWN {
        return Err(de::Error::invalid_value(
            Unexpected::Unsigned(seconds.0),
            &"at most 3600 seconds",
        ));
    }
    Ok(seconds)
}

/// The server that requests are passed to: `http://host[:port]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Upstream(Authority);

impl Upstream {
    /// Its host and port.
    #[must_use]
    pub const fn authority(&self) -> &Authority {
        &self.0
    }
}

impl From<SocketAddr> for Upstream {
    fn from(address: SocketAddr) -> Self {
        let authority = Authority::try_from(address.to_string());
        Self(authority.expect("a socket address is an authority"))
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.0)
    }
}

/// What is wrong with an upstream's address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BadUpstream {
    given: String,
    fault: &'static str,
}

impl fmt::Display for BadUpstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { given, fault } = self;
        write!(
            f,
            "`{given}` is no upstream: {fault}; write http://host:port"
        )
    }
}

impl std::error::Error for BadUpstream {}

impl FromStr for Upstream {
    type Err = BadUpstream;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = |fault| BadUpstream {
            given: text.to_owned(),
            fault,
        };
        let uri: Uri = text.parse().map_err(|_| bad("it is not a URL"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(bad("TLS to the upstream is not supported")),
            _ => return Err(bad("it does not begin with http://")),
        }
        if uri.path() != "/" || uri.query().is_some() {
            return Err(bad("a path cannot be given"));
        }
        match uri.into_parts().authority {
            Some(authority) if authority.as_str().contains('@') => {
                Err(bad("a user name cannot be given"))
            }
            Some(authority) if !authority.host().is_empty() => Ok(Self(authority)),
            _ => Err(bad("it names no host")),
        }
    }
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
    /// When it cannot be read, is not YAML, or says what cannot be done.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
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

    fn parse(text: &str) -> Result<Self, String> {
        // An empty document is null to YAML, and "all defaults" to people.
        let config: Option<Self> =
            serde_saphyr::from_str(text).map_err(|error| plain(&error.to_string()))?;
        let config = config.unwrap_or_default();
        if config.listen_addrs.is_empty() {
            return Err("`listen_addrs` names no address; leave it out for 127.0.0.1:8080".into());
        }
        Ok(config)
    }
}

/// The fault without the word that it is one.
fn plain(fault: &str) -> String {
    fault.strip_prefix("error: ").unwrap_or(fault).to_owned()
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
            ("timeouts:\n  idle: soon\n", "line 2", "soon"),
            (
                "timeouts:\n  connect: 1\n  idle: 0\n",
                "line 3",
                "at least 1",
            ),
            ("max_connections: 0\n", "line 1", "nonzero"),
            ("\nshutdown_timeout: 4000\n", "line 2", "3600"),
            ("\n\nupstream: https://a\n", "line 3", "TLS"),
            ("listen_addrs: [nowhere]\n", "line 1", "socket address"),
            ("recorder:\n  path: a\n  path: b\n", "line 3", "path"),
            ("metrics: [\n", "line", ""),
        ] {
            let message = Config::parse(text).unwrap_err();
            assert!(message.contains(line), "{text:?} gave {message}");
            assert!(message.contains(part), "{text:?} gave {message}");
        }
    }

    #[test]
    fn an_empty_list_of_addresses_is_refused() {
        let message = Config::parse("listen_addrs: []\n").unwrap_err();
        assert!(message.contains("listen_addrs"), "{message}");
    }

    #[test]
    fn an_upstream_is_a_scheme_and_an_authority() {
        for good in ["http://127.0.0.1:3000", "http://app", "http://[::1]:80/"] {
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
        ] {
            let error = bad.parse::<Upstream>().unwrap_err().to_string();
            assert!(error.contains(fault), "{bad} gave {error}");
        }
    }
}

//! The settings of routes, each of which sends matching requests to a target.

use std::str::FromStr;

use lifecycle_proxy_common::HostPattern;
use serde::Deserialize;
use serde::de::{self, Deserializer};

use super::{Feed, Seconds, Stdio, Sticky, Upstream};

/// A route: a pattern of requests, and their target.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(try_from = "RouteFields")]
pub struct Route {
    /// The host of the requests. `None` means any host.
    pub host: Option<HostPattern>,
    /// The prefix that the path of the requests has.
    pub path: PathPrefix,
    /// The target of the requests.
    pub target: Target,
    /// The settings of affinity, with which a client stays with one of several upstreams.
    pub sticky: Option<Sticky>,
}

/// The target of a route's requests.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// Upstreams that get requests in turn, and the settings of their health check.
    Upstreams(Vec<Upstream>, Option<Health>),
    /// A program that the proxy runs, and that speaks JSON-RPC.
    Stdio(Stdio),
    /// A stream of events that is read once and passed on to all clients.
    Feed(Feed),
}

/// The fields of a route, as the configuration file has them.
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
            return Err("`health` needs `upstreams`");
        }
        if upstreams.is_none() && fields.sticky.is_some() {
            return Err("`sticky` needs `upstreams`");
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

/// The settings of a health check of upstreams.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// The path of the check's request. A response with a status below 400 means that the upstream
    /// is healthy.
    pub path: PathPrefix,
    /// The interval between two checks.
    #[serde(default = "Health::interval")]
    pub interval: Seconds,
}

impl Health {
    const fn interval() -> Seconds {
        Seconds::of(5)
    }
}

/// A path prefix in whole segments: `/api` matches `/api` and `/api/x`, but not `/apix`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PathPrefix(String);

impl PathPrefix {
    /// Returns whether `path` begins with this prefix.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let Some(rest) = path.strip_prefix(&*self.0) else {
            return false;
        };
        rest.is_empty() || rest.starts_with('/') || self.0.ends_with('/')
    }

    /// Returns the length in bytes. Of two matching prefixes, the longer one is more specific.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns false, since a prefix always begins with a slash.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// Returns the prefix as it was written.
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
            Err("a path must begin with `/` and must not have a query")
        }
    }
}

impl<'de> Deserialize<'de> for PathPrefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

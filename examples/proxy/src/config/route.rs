//! Routes: which requests go where.

use std::str::FromStr;

use serde::Deserialize;
use serde::de::{self, Deserializer};

use super::{Feed, Seconds, Stdio, Sticky, Upstream};
use crate::config::hosts::HostPattern;

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

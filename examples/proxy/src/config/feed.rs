//! Event streams that the proxy reads once and passes on to all clients of a route.

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

use hyper::http::uri::{PathAndQuery, Uri};
use lifecycle_proxy_common::bounds;
use serde::Deserialize;
use serde::de::{self, Deserializer};

use super::{Seconds, Upstream};

/// The settings of a feed: a stream of server-sent events, and how the proxy passes it on.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Feed {
    /// The URL of the stream.
    pub url: FeedUrl,
    /// The number of events that may wait for a client. A client that falls further behind is
    /// disconnected.
    #[serde(
        deserialize_with = "bounds::positive::<_, _, 65536>",
        default = "Feed::queue"
    )]
    pub queue: NonZeroUsize,
    /// The number of past events to keep for clients that reconnect.
    #[serde(
        deserialize_with = "bounds::natural::<_, _, 65536>",
        default = "Feed::replay"
    )]
    pub replay: usize,
    /// The size of the largest event, in bytes.
    #[serde(
        deserialize_with = "bounds::positive::<_, _, 67108864>",
        default = "Feed::max_event"
    )]
    pub max_event: NonZeroUsize,
    /// The time without data after which the proxy reconnects to the upstream, in seconds.
    #[serde(default = "Feed::idle")]
    pub idle: Seconds,
}

impl Feed {
    /// Creates a feed with the defaults.
    #[must_use]
    pub const fn new(url: FeedUrl) -> Self {
        Self {
            url,
            queue: Self::queue(),
            replay: Self::replay(),
            max_event: Self::max_event(),
            idle: Self::idle(),
        }
    }

    const fn queue() -> NonZeroUsize {
        const { NonZeroUsize::new(256).unwrap() }
    }

    const fn replay() -> usize {
        128
    }

    const fn max_event() -> NonZeroUsize {
        const { NonZeroUsize::new(256 * 1024).unwrap() }
    }

    const fn idle() -> Seconds {
        Seconds::of(300)
    }
}

/// A feed's URL: `http://host[:port]/path`, or `h2c://` for HTTP/2 without TLS.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FeedUrl {
    upstream: Upstream,
    path: PathAndQuery,
}

impl FeedUrl {
    /// Returns the server of the URL.
    #[must_use]
    pub const fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Returns the path and query of the URL.
    #[must_use]
    pub const fn path(&self) -> &PathAndQuery {
        &self.path
    }
}

/// Formats the URL without its query, which may contain a secret.
impl fmt::Display for FeedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.upstream, self.path.path())
    }
}

impl FromStr for FeedUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains('#') {
            return Err("a fragment is not allowed".into());
        }
        let parts = text.parse::<Uri>().map(Uri::into_parts);
        let parts = parts.map_err(|_| "not a URL".to_owned())?;
        let server = match (&parts.scheme, &parts.authority) {
            (Some(scheme), Some(authority)) => format!("{scheme}://{authority}"),
            _ => return Err("not an http:// or h2c:// URL".into()),
        };
        let upstream = server.parse::<Upstream>();
        Ok(Self {
            upstream: upstream.map_err(|error| error.to_string())?,
            path: parts
                .path_and_query
                .unwrap_or_else(|| PathAndQuery::from_static("/")),
        })
    }
}

impl<'de> Deserialize<'de> for FeedUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feed_url_has_a_server_and_a_path_and_hides_its_query() {
        let url: FeedUrl = "h2c://app:81/events?key=secret".parse().unwrap();
        assert!(url.upstream().is_http2());
        assert_eq!(url.path().as_str(), "/events?key=secret");
        assert_eq!(url.to_string(), "h2c://app:81/events");
        assert_eq!(
            "http://app".parse::<FeedUrl>().unwrap().path().as_str(),
            "/"
        );
        for (text, fault) in [
            ("/events", "http://"),
            ("https://app/events", "TLS"),
            ("http://me@app/", "user"),
            ("a b", "URL"),
            ("http://a:0/", "65535"),
            ("http://a/#x", "fragment"),
        ] {
            let error = text.parse::<FeedUrl>().unwrap_err();
            assert!(error.contains(fault), "{text} gave {error}");
        }
    }
}

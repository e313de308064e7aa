//! The address of a server that requests are passed to.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use hyper::http::uri::{Authority, Uri};
use serde::Deserialize;
use serde::de::{self, Deserializer};

use crate::config::hosts::is_plain;

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
pub(super) fn can_connect_to(authority: &Authority) -> bool {
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

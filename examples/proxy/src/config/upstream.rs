//! The address of an upstream server.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use hyper::http::uri::{Authority, Uri};
use lifecycle_proxy_common::can_connect_to;
use serde::Deserialize;
use serde::de::{self, Deserializer};

/// An upstream server: `http://host[:port]`, or `h2c://` for HTTP/2 without TLS.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Upstream {
    authority: Authority,
    http2: bool,
}

impl Upstream {
    /// Returns the host and port.
    #[must_use]
    pub const fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Returns whether the proxy speaks HTTP/2 to this server.
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

/// The error in an upstream's address. The message does not contain the address, which may include
/// a password.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BadUpstream(&'static str);

impl fmt::Display for BadUpstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(fault) = self;
        write!(f, "not an upstream: {fault}; write http://host:port")
    }
}

impl std::error::Error for BadUpstream {}

impl FromStr for Upstream {
    type Err = BadUpstream;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = BadUpstream;
        // Checked here, since the URL parser would drop a fragment silently.
        if text.contains('#') {
            return Err(bad("a fragment is not allowed"));
        }
        let uri: Uri = text.parse().map_err(|_| bad("it is not a URL"))?;
        let http2 = match uri.scheme_str() {
            Some("http") => false,
            Some("h2c") => true,
            Some("https") => return Err(bad("TLS to the upstream is not supported")),
            _ => return Err(bad("it does not begin with http:// or h2c://")),
        };
        if uri.path() != "/" || uri.query().is_some() {
            return Err(bad("a path is not allowed"));
        }
        match uri.into_parts().authority {
            Some(authority) if authority.as_str().contains('@') => {
                Err(bad("a user name is not allowed"))
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

impl<'de> Deserialize<'de> for Upstream {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

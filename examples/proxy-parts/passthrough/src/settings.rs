//! The settings of TLS passthrough, as a configuration file has them.

use std::net::SocketAddr;

use http::uri::Authority;
use lifecycle_proxy_common::{HostPattern, can_connect_to};
use serde::Deserialize;
use serde::de::{self, Deserializer};

/// The settings of TLS connections, which are passed on by server name without decryption.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(try_from = "Fields")]
pub struct Settings {
    /// The addresses that TLS clients connect to. By default there are none.
    pub listen_addrs: Vec<SocketAddr>,
    /// The allowed server names. The first pattern that matches a name decides.
    pub allow: Vec<Allowed>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Fields {
    listen_addrs: Vec<SocketAddr>,
    allow: Vec<Allowed>,
}

impl TryFrom<Fields> for Settings {
    type Error = &'static str;

    fn try_from(
        Fields {
            listen_addrs,
            allow,
        }: Fields,
    ) -> Result<Self, Self::Error> {
        if !listen_addrs.is_empty() && allow.is_empty() {
            return Err("`tls.allow` is empty, so no client could connect");
        }
        Ok(Self {
            listen_addrs,
            allow,
        })
    }
}

/// A pattern of server names, and the server for the names that match.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Allowed {
    /// A server name, or a wildcard for all names under a domain.
    pub name: HostPattern,
    /// The `host:port` of the server. The default is port 443 of the name that the client requests.
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
            "expected `host:port` with a port from 1 to 65535",
        ))
    }
}

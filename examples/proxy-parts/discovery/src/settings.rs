//! The settings of the announcements of a server.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU16;

use hyper::header::HeaderValue;
use hyper::http::uri::{Authority, Uri};
use lifecycle_proxy_common::{Seconds, is_plain};
use mdns_sd::IfKind;
use serde::Deserialize;
use serde::de::{self, Deserializer};

/// The settings of the announcements of a server.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The service that the server is an instance of.
    pub service: Label,
    /// The id of this instance. The default consists of the service, the host's name and the port.
    pub id: Option<Label>,
    /// The host name or address under which others reach the server. The default is the address
    /// that the server listens on.
    pub address: Option<Label>,
    /// The time limit of each goodbye.
    pub timeout: Seconds,
    /// The announcement by multicast DNS, which reaches all machines on the link.
    pub mdns: Option<Mdns>,
    /// The datagrams to other servers, which are its peers.
    pub peers: Option<Peers>,
    /// The registration with a Consul agent.
    pub consul: Option<Consul>,
    /// The registration in an etcd cluster.
    pub etcd: Option<Etcd>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            service: Label("proxy".into()),
            id: None,
            address: None,
            timeout: Seconds::of(3),
            mdns: None,
            peers: None,
            consul: None,
            etcd: None,
        }
    }
}

/// A part of a name, path or key. It begins with a letter or digit, followed by letters, digits or
/// `-`, `_`, `.`, `:`. It has at most 63 bytes, like a DNS label.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Label(String);

impl Label {
    /// Returns the label as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Label {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        let begins = text
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_alphanumeric());
        // Allows colons at the beginning, which an IPv6 address may have.
        if text.len() <= 63 && (begins || text.starts_with("::")) && text.bytes().all(plain) {
            Ok(Self(text))
        } else {
            Err(de::Error::custom(
                "not a name: use at most 63 letters, digits, `-`, `_`, `.` and `:`",
            ))
        }
    }
}

/// The settings of the announcement by multicast DNS (RFC 6762).
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Mdns {
    /// The service type, without its domain.
    pub service: ServiceType,
    /// The names or addresses of the interfaces on which the server is announced. The default is
    /// the interface with the listening address, or all interfaces but loopback.
    pub interfaces: Vec<Interface>,
    /// The port for multicast DNS. Only tests use another port than the standard one.
    pub port: NonZeroU16,
}

impl Default for Mdns {
    fn default() -> Self {
        Self {
            service: ServiceType("_http._tcp".into()),
            interfaces: Vec::new(),
            port: const { NonZeroU16::new(5353).unwrap() },
        }
    }
}

/// A service type, such as `_http._tcp`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServiceType(String);

impl ServiceType {
    /// Returns the service type followed by the domain of multicast DNS.
    #[must_use]
    pub fn domain(&self) -> String {
        format!("{}.local.", self.0)
    }
}

impl<'de> Deserialize<'de> for ServiceType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let name = text.strip_suffix("._tcp").or(text.strip_suffix("._udp"));
        let name = name.and_then(|name| name.strip_prefix('_'));
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        match name {
            Some(name) if matches!(name.len(), 1..=15) && name.bytes().all(plain) => Ok(Self(text)),
            _ => Err(de::Error::custom(
                "not a service type: write `_name._tcp`, the name in at most 15 \
                 letters, digits and `-`",
            )),
        }
    }
}

/// A network interface, by its name or one of its addresses.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Interface(String);

impl From<&Interface> for IfKind {
    fn from(interface: &Interface) -> Self {
        match interface.0.parse() {
            Ok(address) => Self::Addr(address),
            Err(_) => Self::Name(interface.0.clone()),
        }
    }
}

/// The settings of the datagrams that the server exchanges with its peers.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Peers {
    /// The address of the server's socket, for sending and receiving.
    pub listen: SocketAddr,
    /// The addresses of the peers. Datagrams from other addresses are ignored.
    pub tell: Vec<SocketAddr>,
    /// The interval between two greetings.
    #[serde(default = "Peers::hello")]
    pub hello: Seconds,
}

impl Peers {
    const fn hello() -> Seconds {
        Seconds::of(5)
    }
}

/// The settings of the registration with a Consul agent.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Consul {
    /// The agent's URL.
    pub url: Endpoint,
    /// The access token for Consul. `None` means that requests have no token.
    pub token: Option<Secret>,
    /// The time after which Consul considers a silent server gone.
    #[serde(default = "time_to_live")]
    pub ttl: Seconds,
}

/// The settings of the registration in an etcd cluster.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Etcd {
    /// The servers' URLs. The first server that answers is used.
    #[serde(deserialize_with = "endpoints")]
    pub endpoints: Vec<Endpoint>,
    /// The beginning of the key. The service and the id follow.
    #[serde(default = "Etcd::prefix")]
    pub prefix: String,
    /// The access token for etcd. `None` means that requests have no token.
    pub token: Option<Secret>,
    /// The time after which etcd deletes the key of a silent server.
    #[serde(default = "time_to_live")]
    pub ttl: Seconds,
}

impl Etcd {
    fn prefix() -> String {
        "/services".into()
    }
}

const fn time_to_live() -> Seconds {
    Seconds::of(15)
}

fn endpoints<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Endpoint>, D::Error> {
    let endpoints = Vec::deserialize(deserializer)?;
    if endpoints.is_empty() {
        return Err(de::Error::custom("`endpoints` names no server"));
    }
    Ok(endpoints)
}

/// The URL of a registry: `http://host:port`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint(Authority);

impl Endpoint {
    /// Returns the host and port of the URL.
    #[must_use]
    pub const fn authority(&self) -> &Authority {
        &self.0
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.0)
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parts = text.parse::<Uri>().map(Uri::into_parts);
        let plain = parts.ok().filter(|parts| {
            if text.contains('#') {
                return false;
            }
            let path = parts
                .path_and_query
                .as_ref()
                .map_or("/", |path| path.as_str());
            parts.scheme.as_ref().is_some_and(|scheme| scheme == "http") && path == "/"
        });
        match plain.and_then(|parts| parts.authority) {
            Some(authority)
                if authority.port_u16().is_some_and(|port| port > 0) && is_plain(&authority) =>
            {
                Ok(Self(authority))
            }
            _ => Err(de::Error::custom(
                "not the URL of a registry: write http://host:port",
            )),
        }
    }
}

/// A value for a header field. `Debug` does not show it, so that no log contains it.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(HeaderValue);

impl Secret {
    /// Returns the header value.
    #[must_use]
    pub fn reveal(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut value = HeaderValue::try_from(text)
            .map_err(|_| de::Error::custom("a token must not contain control characters"))?;
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings, String> {
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn missing_fields_have_their_defaults() {
        let config = parse(
            "mdns: {}\npeers: {listen: 127.0.0.1:1, tell: []}\nconsul: {url: http://a:8500}\n\
             etcd: {endpoints: [http://b:2379]}\n",
        )
        .unwrap();
        let mdns = config.mdns.unwrap();
        assert_eq!(
            (mdns.service.domain().as_str(), mdns.port.get()),
            ("_http._tcp.local.", 5353)
        );
        assert_eq!(config.peers.unwrap().hello, Seconds::of(5));
        assert_eq!(config.consul.unwrap().ttl, Seconds::of(15));
        assert_eq!(config.etcd.unwrap().prefix, "/services");
        assert_eq!(config.timeout, Seconds::of(3));
    }

    #[test]
    fn invalid_names_and_addresses_are_refused() {
        for (text, part) in [
            ("service: a/b", "not a name"),
            ("mdns: {service: http}", "_name._tcp"),
            ("mdns: {service: _sixteenletters16._tcp}", "at most 15"),
            ("consul: {url: https://a:8500}", "http://host:port"),
            ("consul: {url: http://a}", "http://host:port"),
            ("consul: {url: http://a:1/v1}", "http://host:port"),
            ("consul: {url: http://a:0}", "http://host:port"),
            ("consul: {url: http://a:70000}", "http://host:port"),
            ("consul: {url: 'http://a:1#x'}", "http://host:port"),
            ("etcd: {endpoints: []}", "names no server"),
            ("peers: {listen: 127.0.0.1:1}", "tell"),
        ] {
            let message = parse(text).unwrap_err();
            assert!(message.contains(part), "{text:?} gave {message}");
        }
    }

    #[test]
    fn a_token_is_not_shown() {
        let config = parse("consul: {url: http://a:1, token: hidden}").unwrap();
        assert!(!format!("{config:?}").contains("hidden"));
        assert_eq!(config.consul.unwrap().token.unwrap().reveal(), "hidden");
    }
}

//! How others learn of the proxy, and that it leaves.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU16;

use hyper::header::HeaderValue;
use hyper::http::uri::{Authority, Uri};
use mdns_sd::IfKind;
use serde::Deserialize;
use serde::de::{self, Deserializer};

use super::Seconds;
use crate::config::hosts::is_plain;

/// Who is told of the proxy.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Discovery {
    /// The service it is one of.
    pub service: Label,
    /// Which one of them; the service, the host's name and the port if there is none.
    pub id: Option<Label>,
    /// The host name or address that others reach it by; the one it listens on if
    /// there is none.
    pub address: Option<Label>,
    /// How long a goodbye may take, each for itself.
    pub timeout: Seconds,
    /// Everyone on the link.
    pub mdns: Option<Mdns>,
    /// Other proxies.
    pub peers: Option<Peers>,
    /// An agent of Consul.
    pub consul: Option<Consul>,
    /// Servers of etcd.
    pub etcd: Option<Etcd>,
}

impl Default for Discovery {
    fn default() -> Self {
        Self {
            service: Label("proxy".into()),
            id: None,
            address: None,
            timeout: Seconds(3),
            mdns: None,
            peers: None,
            consul: None,
            etcd: None,
        }
    }
}

/// What becomes part of a name, a path or a key: a letter or digit, then more of them
/// and `-`, `_`, `.`, `:`; at most 63 bytes, as DNS has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Label(String);

impl Label {
    /// As it was written.
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
        // An address of IPv6 may begin with its colons.
        if text.len() <= 63 && (begins || text.starts_with("::")) && text.bytes().all(plain) {
            Ok(Self(text))
        } else {
            Err(de::Error::custom(
                "this is no name: at most 63 letters, digits, `-`, `_`, `.` and `:`",
            ))
        }
    }
}

/// An announcement by multicast DNS (RFC 6762).
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Mdns {
    /// The type of the service, without its domain.
    pub service: ServiceType,
    /// Where it is announced: names or addresses of interfaces. If there are none, on
    /// the one that has the address the proxy listens on, or on all but loopback.
    pub interfaces: Vec<Interface>,
    /// The port of multicast DNS. Only trials have another one.
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

/// A type of service, such as `_http._tcp`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServiceType(String);

impl ServiceType {
    /// With the domain of multicast DNS.
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
                "this is no type of service; write `_name._tcp`, the name in at most 15 \
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

/// Other proxies, who are told by datagrams.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Peers {
    /// Where their datagrams come in, and from where they are sent some.
    pub listen: SocketAddr,
    /// Who they are. Nobody else is listened to.
    pub tell: Vec<SocketAddr>,
    /// How often they are greeted.
    #[serde(default = "Peers::hello")]
    pub hello: Seconds,
}

impl Peers {
    const fn hello() -> Seconds {
        Seconds(5)
    }
}

/// An agent of Consul.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Consul {
    /// Where it is.
    pub url: Endpoint,
    /// The token it asks for.
    pub token: Option<Secret>,
    /// A proxy that said nothing for so long is taken to be gone.
    #[serde(default = "time_to_live")]
    pub ttl: Seconds,
}

/// Servers of etcd.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Etcd {
    /// Where they are; the first that answers is taken.
    #[serde(deserialize_with = "endpoints")]
    pub endpoints: Vec<Endpoint>,
    /// What the key begins with; the service and the id follow.
    #[serde(default = "Etcd::prefix")]
    pub prefix: String,
    /// The token they ask for.
    pub token: Option<Secret>,
    /// A proxy that said nothing for so long is taken to be gone.
    #[serde(default = "time_to_live")]
    pub ttl: Seconds,
}

impl Etcd {
    fn prefix() -> String {
        "/services".into()
    }
}

const fn time_to_live() -> Seconds {
    Seconds(15)
}

fn endpoints<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Endpoint>, D::Error> {
    let endpoints = Vec::deserialize(deserializer)?;
    if endpoints.is_empty() {
        return Err(de::Error::custom("`endpoints` names no server"));
    }
    Ok(endpoints)
}

/// Where a registry answers: `http://host:port`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint(Authority);

impl Endpoint {
    /// Its host and port.
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
                "this is no registry; write http://host:port",
            )),
        }
    }
}

/// What no log shows, and what can be the value of a header field.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(HeaderValue);

impl Secret {
    /// For the field that carries it.
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
            .map_err(|_| de::Error::custom("a token has no control characters"))?;
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Discovery, String> {
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_left_out_has_its_default() {
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
        assert_eq!(config.peers.unwrap().hello, Seconds(5));
        assert_eq!(config.consul.unwrap().ttl, Seconds(15));
        assert_eq!(config.etcd.unwrap().prefix, "/services");
        assert_eq!(config.timeout, Seconds(3));
    }

    #[test]
    fn what_cannot_be_a_name_or_an_address_is_refused() {
        for (text, part) in [
            ("service: a/b", "this is no name"),
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

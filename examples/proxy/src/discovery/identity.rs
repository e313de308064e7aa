//! What the proxy is called, and where it is.

use std::net::SocketAddr;

use crate::config::Discovery;

/// Who announces what.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The service it is one of.
    pub service: String,
    /// Which one of them.
    pub id: String,
    /// The machine, without a domain.
    pub host: String,
    /// Where it listens; the port is the real one.
    pub listening: SocketAddr,
    /// The host name or address that others are told.
    pub address: String,
}

impl Identity {
    /// A proxy that listens on `listening`.
    #[must_use]
    pub fn new(config: &Discovery, listening: SocketAddr) -> Self {
        let host = host();
        let service = config.service.to_string();
        let id = match &config.id {
            Some(id) => id.to_string(),
            None => format!("{service}-{host}-{}", listening.port()),
        };
        let address = match &config.address {
            Some(address) => address.to_string(),
            // An address that means all of them is nobody's.
            None if listening.ip().is_unspecified() => host.clone(),
            None => listening.ip().to_string(),
        };
        Self {
            service,
            id,
            host,
            listening,
            address,
        }
    }
}

/// The first label of the machine's name, as far as a label of DNS goes.
fn host() -> String {
    let system = rustix::system::uname();
    let name = system.nodename().to_string_lossy();
    let label = name.split('.').next().unwrap_or_default();
    let plain = |character: &char| character.is_ascii_alphanumeric() || *character == '-';
    let label: String = label.chars().filter(plain).take(40).collect();
    if label.is_empty() {
        "localhost".into()
    } else {
        label
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_that_others_are_told_is_one_they_can_reach() {
        let config = Discovery::default();
        let at = |listening: &str| Identity::new(&config, listening.parse().unwrap());
        assert_eq!(at("192.0.2.1:80").address, "192.0.2.1");
        assert_eq!(at("[::]:80").address, host());
        assert_eq!(at("[::]:80").id, format!("proxy-{}-80", host()));
    }
}

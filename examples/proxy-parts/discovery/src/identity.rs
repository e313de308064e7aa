//! The name and the address under which others know the server.

use std::net::SocketAddr;

use crate::settings::Settings;

/// The identity of the server, which is part of each announcement.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The service that the server is an instance of.
    pub service: String,
    /// The id of this instance.
    pub id: String,
    /// The machine's name, without a domain.
    pub host: String,
    /// The address that the server listens on, with the port that it really has.
    pub listening: SocketAddr,
    /// The host name or address under which others reach the server.
    pub address: String,
}

impl Identity {
    /// Creates the identity of a server that listens on `listening`.
    #[must_use]
    pub fn new(config: &Settings, listening: SocketAddr) -> Self {
        let host = host();
        let service = config.service.to_string();
        let id = match &config.id {
            Some(id) => id.to_string(),
            None => format!("{service}-{host}-{}", listening.port()),
        };
        let address = match &config.address {
            Some(address) => address.to_string(),
            // Skips an unspecified address (`0.0.0.0`), since other machines cannot connect to it.
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

/// Returns the first label of the machine's name. Leaves out characters that DNS does not allow.
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
        let config = Settings::default();
        let at = |listening: &str| Identity::new(&config, listening.parse().unwrap());
        assert_eq!(at("192.0.2.1:80").address, "192.0.2.1");
        assert_eq!(at("[::]:80").address, host());
        assert_eq!(at("[::]:80").id, format!("proxy-{}-80", host()));
    }
}

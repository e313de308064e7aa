//! The settings of the admin listener, and the token that its actions require.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use lifecycle_proxy_common::HostPattern;
use serde::Deserialize;
use serde::de::{self, Deserializer};
use subtle::ConstantTimeEq as _;

use super::file;

/// The default address of the admin listener.
pub(super) const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9090);

/// The settings of the admin listener.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(try_from = "Fields")]
pub struct Admin {
    /// Whether to start the admin listener.
    pub enabled: bool,
    /// The address to listen on. `None` means the default address.
    pub address: Option<SocketAddr>,
    /// Whether other machines are meant to reach the admin listener. This only silences a warning.
    pub public: bool,
    /// The host names with which browsers may request pages of the admin listener. Addresses and
    /// `localhost` are always allowed.
    pub hosts: Vec<HostPattern>,
    /// The secret that a client needs for actions. `None` means that actions are not possible.
    pub secret: Option<Secret>,
}

/// The place of the token: the configuration or a file.
#[derive(Clone, Debug, PartialEq)]
pub enum Secret {
    /// The token itself, in the configuration.
    Token(Token),
    /// The path of a file with the token. The file is read at each use, so that it can be replaced.
    File(PathBuf),
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Fields {
    enabled: bool,
    address: Option<SocketAddr>,
    public: bool,
    hosts: Vec<HostPattern>,
    token: Option<Token>,
    token_file: Option<PathBuf>,
}

impl TryFrom<Fields> for Admin {
    type Error = &'static str;

    fn try_from(fields: Fields) -> Result<Self, Self::Error> {
        let secret = match (fields.token, fields.token_file) {
            (Some(_), Some(_)) => return Err("`token` and `token_file` exclude each other"),
            (Some(token), None) => Some(Secret::Token(token)),
            (None, file) => file.map(Secret::File),
        };
        Ok(Self {
            enabled: fields.enabled,
            address: fields.address,
            public: fields.public,
            hosts: fields.hosts,
            secret,
        })
    }
}

impl Secret {
    /// Returns the current token. Blocks the thread if it must read a file.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or it holds no valid token.
    pub fn token(&self) -> Result<Token, UnusableToken> {
        match self {
            Self::Token(token) => Ok(token.clone()),
            Self::File(path) => read(path).map_err(|fault| UnusableToken {
                path: path.clone(),
                fault,
            }),
        }
    }
}

/// The size of the largest token file, in bytes.
const LARGEST: u64 = 4096;

fn read(path: &Path) -> Result<Token, String> {
    let text = file::read(path, LARGEST).map_err(|error| error.to_string())?;
    text.trim().parse().map_err(str::to_owned)
}

/// The error that a token file cannot be used.
#[derive(Debug)]
pub struct UnusableToken {
    path: PathBuf,
    fault: String,
}

impl fmt::Display for UnusableToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, fault } = self;
        write!(f, "the token file {}: {fault}", path.display())
    }
}

impl std::error::Error for UnusableToken {}

/// A token that a client needs for actions. Its `Debug` output does not contain it.
#[derive(Clone, PartialEq)]
pub struct Token(String);

impl Token {
    /// The smallest number of characters in a token. Shorter tokens could be guessed.
    const SHORTEST: usize = 16;

    /// Compares `given` with the token. The time that it takes does not depend on the characters.
    #[must_use]
    pub fn is(&self, given: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(given).into()
    }
}

impl FromStr for Token {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("a token must be printable ASCII without spaces");
        }
        if text.len() < Self::SHORTEST {
            return Err("a token needs at least 16 characters");
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const TOKEN: &str = "correct-horse-battery";

    #[test]
    fn the_admin_listener_is_off_by_default_and_local_when_enabled() {
        for (text, address) in [
            ("", None),
            ("admin: {enabled: true}", Some("127.0.0.1:9090")),
            (
                "admin: {enabled: true, address: \"[::1]:1\"}",
                Some("[::1]:1"),
            ),
            ("admin: {address: \"127.0.0.1:1\"}", None),
            ("metrics: {enabled: true}", Some("127.0.0.1:9090")),
            (
                "metrics: {enabled: true, address: \"127.0.0.1:2\"}",
                Some("127.0.0.1:2"),
            ),
            (
                "metrics: {enabled: true, address: \"127.0.0.1:2\"}\n\
                 admin: {enabled: true, address: \"127.0.0.1:3\"}",
                Some("127.0.0.1:3"),
            ),
            (
                "metrics: {address: \"127.0.0.1:2\"}\nadmin: {enabled: true}",
                Some("127.0.0.1:2"),
            ),
        ] {
            let config = Config::parse(text).unwrap();
            let found = config.admin_address().map(|address| address.to_string());
            assert_eq!(found.as_deref(), address, "{text}");
        }
    }

    #[test]
    fn a_token_has_one_source_and_a_minimum_length_and_is_never_shown() {
        let config = Config::parse(&format!("admin: {{token: {TOKEN}}}")).unwrap();
        let shown = format!("{config:?}");
        assert!(
            !shown.contains(TOKEN) && shown.contains("Token(Token)"),
            "{shown}"
        );
        for (text, part) in [
            ("admin: {token: short}", "16 characters"),
            (
                "admin: {token: \"with some spaces in it\"}",
                "without spaces",
            ),
            (
                "admin: {token: correct-horse-battery, token_file: a}",
                "exclude each other",
            ),
        ] {
            let message = Config::parse(text).unwrap_err();
            assert!(
                message.contains(part) && message.contains("line 1"),
                "{message}"
            );
        }
    }

    #[test]
    fn only_the_whole_token_matches() {
        let token: Token = TOKEN.parse().unwrap();
        assert!(token.is(TOKEN.as_bytes()));
        for other in ["", "correct-horse-batterz", "correct-horse-battery-"] {
            assert!(!token.is(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn a_token_file_is_read_at_each_use_and_named_in_errors() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let secret = Secret::File(path.clone());
        let missing = secret.token().unwrap_err().to_string();
        assert!(missing.contains(path.to_str().unwrap()), "{missing}");
        std::fs::write(&path, "short\n").unwrap();
        assert!(secret.token().unwrap_err().to_string().contains("16"));
        std::fs::write(&path, format!("{TOKEN}\n")).unwrap();
        assert!(secret.token().unwrap().is(TOKEN.as_bytes()));
    }
}

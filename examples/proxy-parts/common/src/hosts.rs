//! Host names, patterns of host names, and checks of a host with a port.

use std::fmt;
use std::str::FromStr;

use http::uri::Authority;
use serde::de::{self, Deserialize, Deserializer};

/// A pattern of host names: a name, or a wildcard. `*.example.com` matches `a.example.com` and
/// `a.b.example.com`, but not `example.com`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HostPattern {
    wildcard: bool,
    /// The name in lower case. For a wildcard, it is the part after the star, which begins with a
    /// dot.
    name: String,
}

/// The error that a text is no valid host pattern.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BadPattern;

impl fmt::Display for BadPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a host name: write a name, or `*.` and a domain")
    }
}

impl std::error::Error for BadPattern {}

impl HostPattern {
    /// Returns whether the pattern matches `host`, which must not have a port.
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        let Some(start) = host.len().checked_sub(self.name.len()) else {
            return false;
        };
        let whole = if self.wildcard { start > 0 } else { start == 0 };
        whole
            && host
                .get(start..)
                .is_some_and(|end| end.eq_ignore_ascii_case(&self.name))
    }

    /// Returns the key by which patterns are sorted: names before wildcards, longer patterns before
    /// shorter ones.
    #[must_use]
    pub fn weight(&self) -> (bool, usize) {
        (!self.wildcard, self.name.len())
    }
}

impl FromStr for HostPattern {
    type Err = BadPattern;

    fn from_str(text: &str) -> Result<Self, BadPattern> {
        let (wildcard, domain) = match text.strip_prefix("*.") {
            Some(domain) => (true, domain),
            None => (false, text),
        };
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let address = domain.parse::<std::net::Ipv6Addr>().is_ok();
        let dots = domain.starts_with('.') || domain.ends_with('.') || domain.contains("..");
        if domain.is_empty() || dots || !(address || domain.bytes().all(good)) {
            return Err(BadPattern);
        }
        let domain = domain.to_ascii_lowercase();
        Ok(Self {
            wildcard,
            name: if wildcard {
                format!(".{domain}")
            } else {
                domain
            },
        })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = if self.wildcard { "*" } else { "" };
        write!(f, "{star}{}", self.name)
    }
}

impl<'de> Deserialize<'de> for HostPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// Returns whether an authority has a host, no user, and a valid port, if any. Checks the port,
/// since the URL parser accepts any text after the colon.
#[must_use]
pub fn is_plain(authority: &Authority) -> bool {
    let (text, host) = (authority.as_str(), authority.host());
    if host == "." || host.contains("..") {
        return false;
    }
    let port = match text.strip_prefix(host) {
        Some("") => return true,
        Some(rest) => rest.strip_prefix(':'),
        None => None,
    };
    !host.is_empty()
        && port.is_some_and(|port| {
            let digits = port.bytes().all(|byte| byte.is_ascii_digit());
            digits && (port.is_empty() || port.parse::<u16>().is_ok())
        })
}

/// Returns whether an authority has no port, or a valid port other than 0.
#[must_use]
pub fn can_connect_to(authority: &Authority) -> bool {
    let is_bare = authority.as_str() == authority.host();
    is_bare || (is_plain(authority) && authority.port_u16().is_some_and(|port| port > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> HostPattern {
        text.parse().unwrap()
    }

    #[test]
    fn a_name_is_that_host_in_any_case() {
        let exact = pattern("Shop.example");
        assert!(exact.matches("shop.EXAMPLE") && exact.matches("shop.example."));
        for other in ["ashop.example", "a.shop.example", "example", ""] {
            assert!(!exact.matches(other), "{other}");
        }
    }

    #[test]
    fn a_wildcard_matches_subdomains_but_not_the_domain() {
        let all = pattern("*.example.com");
        assert!(all.matches("a.example.com") && all.matches("A.b.Example.com"));
        for other in [
            "example.com",
            ".example.com",
            "badexample.com",
            "a.example.com.evil",
        ] {
            assert!(!all.matches(other), "{other}");
        }
    }

    #[test]
    fn a_text_that_is_not_a_host_is_refused() {
        for text in [
            "",
            "*",
            "*.",
            "a b",
            "a*.example",
            ".example",
            "a..b",
            "a:80",
        ] {
            assert!(text.parse::<HostPattern>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_plain_authority_is_a_host_with_or_without_a_valid_port() {
        for (text, plain) in [
            ("a", true),
            ("a:80", true),
            ("a:", true),
            ("[::1]:80", true),
            ("a:65536", false),
            ("a:x", false),
            ("me@a:80", false),
            ("a..b:80", false),
            (".", false),
        ] {
            // The parser itself refuses some of these texts.
            let given = text.parse().is_ok_and(|authority| is_plain(&authority));
            assert_eq!(given, plain, "{text}");
        }
    }
}

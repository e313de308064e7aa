//! Helpers that several parts of the example proxy need: numbers of a configuration with their
//! bounds, times in files, a rate limit of log lines.
//!
//! ```
//! use lifecycle_proxy_common::{Seconds, Throttle};
//!
//! let limit: Seconds = serde_json::from_str("5")?;
//! assert_eq!(limit.duration().as_millis(), 5000);
//! let error = serde_json::from_str::<Seconds>("0").unwrap_err().to_string();
//! assert!(error.starts_with("expected a whole number from 1 to 31536000"));
//!
//! let complaints = Throttle::default();
//! assert!(complaints.allows());
//! assert!(!complaints.allows(), "a second line within the same second");
//! # Ok::<_, serde_json::Error>(())
//! ```

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod bounds;
mod seconds;
mod throttle;
pub mod timestamp;

use http::uri::Authority;

pub use seconds::Seconds;
pub use throttle::Throttle;

/// The current use of a resource, and its peak.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Used {
    /// The current number.
    pub active: u64,
    /// The largest number at the same time.
    pub peak: u64,
}

/// Returns whether an authority has a host, no user, and a valid port. The URL parser accepts any
/// text after the colon.
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

#[cfg(test)]
mod tests {
    use super::*;

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
            // Some of these are refused by the parser already.
            let given = text.parse().is_ok_and(|authority| is_plain(&authority));
            assert_eq!(given, plain, "{text}");
        }
    }
}

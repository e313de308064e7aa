//! Access rules of the admin listener: the allowed host names, and the token for actions.

use hyper::Request;
use hyper::header::{AUTHORIZATION, HOST};
use hyper::http::uri::Authority;
use lifecycle_proxy_common::HostPattern;
use std::net::IpAddr;
use tracing::error;

use crate::config::{Admin, Secret};

/// The access rules of the admin listener.
#[derive(Clone, Debug)]
pub struct Access {
    hosts: Vec<HostPattern>,
    secret: Option<Secret>,
}

/// The reason why a request may not begin an action.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Denied {
    /// No token is configured, so there are no actions.
    Disabled,
    /// The request has no token.
    Anonymous,
    /// The request has a wrong token.
    Wrong,
    /// The token file cannot be used.
    Broken,
}

impl Access {
    /// Creates the rules that are configured.
    #[must_use]
    pub fn new(config: &Admin) -> Self {
        Self {
            hosts: config.hosts.clone(),
            secret: config.secret.clone(),
        }
    }

    /// Returns whether actions are possible, because a token is configured.
    #[must_use]
    pub const fn is_possible(&self) -> bool {
        self.secret.is_some()
    }

    /// Returns whether the request's host name belongs to this server. A page of another site can
    /// let its own host name point to this address (DNS rebinding). The browser would then let that
    /// page read the responses.
    #[must_use]
    pub fn is_own_host<B>(&self, request: &Request<B>) -> bool {
        let host = request.headers().get(HOST);
        let host = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
        let Some(authority) = request.uri().authority().cloned().or(host) else {
            return false;
        };
        let name = authority.host();
        let name = name.trim_start_matches('[').trim_end_matches(']');
        name.parse::<IpAddr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || self.hosts.iter().any(|host| host.matches(name))
    }

    /// Checks the token of a request.
    ///
    /// # Errors
    ///
    /// When the request may not begin an action. The error is the reason.
    pub async fn allows<B>(&self, request: &Request<B>) -> Result<(), Denied> {
        let secret = self.secret.clone().ok_or(Denied::Disabled)?;
        let given = request.headers().get(AUTHORIZATION);
        let given = given.and_then(|value| bearer(value.as_bytes()));
        let given = given.ok_or(Denied::Anonymous)?.to_owned();
        let token = tokio::task::spawn_blocking(move || secret.token()).await;
        match token {
            Ok(Ok(token)) if token.is(&given) => Ok(()),
            Ok(Ok(_)) => Err(Denied::Wrong),
            Ok(Err(error)) => {
                error!(%error, "checking the admin token failed");
                Err(Denied::Broken)
            }
            Err(error) => {
                error!(%error, "checking the admin token failed");
                Err(Denied::Broken)
            }
        }
    }
}

/// Returns the token in a field value `Bearer token` (RFC 6750 §2.1). The case of `Bearer` does not
/// matter.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked("Bearer ".len())?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then(|| rest.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(secret: Option<Secret>) -> Access {
        Access {
            hosts: vec!["*.internal".parse().unwrap()],
            secret,
        }
    }

    #[test]
    fn only_addresses_localhost_and_configured_names_are_own_hosts() {
        for (host, ours) in [
            (Some("127.0.0.1:9090"), true),
            (Some("[::1]:9090"), true),
            (Some("10.1.2.3"), true),
            (Some("localhost:9090"), true),
            (Some("proxy.internal:9090"), true),
            (Some("evil.example:9090"), false),
            (Some("localhost.evil.example"), false),
            (Some("127.0.0.1.evil.example"), false),
            (Some(""), false),
            (None, false),
        ] {
            let mut request = Request::get("/status");
            if let Some(host) = host {
                request = request.header(HOST, host);
            }
            let request = request.body(()).unwrap();
            assert_eq!(access(None).is_own_host(&request), ours, "{host:?}");
        }
    }

    #[tokio::test]
    async fn only_the_token_allows_actions() {
        let token = Secret::Token("correct-horse-battery".parse().unwrap());
        let missing = Secret::File("/nonexistent/token".into());
        for (secret, header, expected) in [
            (
                None,
                Some("Bearer correct-horse-battery"),
                Err(Denied::Disabled),
            ),
            (Some(token.clone()), None, Err(Denied::Anonymous)),
            (
                Some(token.clone()),
                Some("Basic abc"),
                Err(Denied::Anonymous),
            ),
            (Some(token.clone()), Some("Bearer"), Err(Denied::Anonymous)),
            (
                Some(token.clone()),
                Some("Bearer correct-horse"),
                Err(Denied::Wrong),
            ),
            (Some(token), Some("bearer correct-horse-battery"), Ok(())),
            (
                Some(missing),
                Some("Bearer correct-horse-battery"),
                Err(Denied::Broken),
            ),
        ] {
            let mut request = Request::post("/drain");
            if let Some(header) = header {
                request = request.header(AUTHORIZATION, header);
            }
            let request = request.body(()).unwrap();
            let shown = format!("{secret:?} {header:?}");
            assert_eq!(access(secret).allows(&request).await, expected, "{shown}");
        }
    }
}

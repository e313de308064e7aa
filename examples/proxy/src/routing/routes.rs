//! The routes, and the choice of a route for a request.

use std::cell::LazyCell;
use std::sync::Arc;

use hyper::header::HeaderValue;
use hyper::http::uri::Authority;
use lifecycle_proxy_common::HostPattern;
use lifecycle_proxy_feeds::FeedClient;
use lifecycle_proxy_programs::StdioClient;

use crate::config::PathPrefix;
use crate::routing::group::Group;
use crate::upstream::member::Member;

/// The routes. A more specific route stands before a less specific one.
#[derive(Debug)]
pub struct Routes(Vec<Route>);

/// A route: a pattern for requests, and the target of the requests that match.
#[derive(Debug)]
pub struct Route {
    /// The host of the requests. `None` means any host.
    pub host: Option<HostPattern>,
    /// The prefix that the path of the requests has.
    pub path: PathPrefix,
    /// The target of the requests.
    pub target: Target,
}

/// The target of a route's requests.
#[derive(Clone, Debug)]
pub enum Target {
    /// A group of equal HTTP servers.
    Http(Arc<Group>),
    /// A program that is run by the proxy and answers JSON-RPC.
    Stdio(StdioClient),
    /// A stream of events that is read once and passed on to all clients.
    Feed(FeedClient),
}

impl Routes {
    /// Sorts the routes, the most specific first. Routes with a host stand before routes without,
    /// names before wildcards, longer hosts before shorter ones, then longer paths before shorter
    /// ones.
    #[must_use]
    pub fn new(mut routes: Vec<Route>) -> Self {
        routes.sort_by_key(|route| {
            let host = route.host.as_ref().map(HostPattern::weight);
            std::cmp::Reverse((host, route.path.len()))
        });
        Self(routes)
    }

    /// Returns the target of the first route that matches a request.
    #[must_use]
    pub fn find(&self, host: Option<&HeaderValue>, path: &str) -> Option<&Target> {
        // Parsed only when a route with a host is compared, since other routes do not need the
        // host.
        let authority = LazyCell::new(|| Authority::try_from(host?.as_bytes()).ok());
        let is_for = |pattern: &HostPattern| {
            let name = authority.as_ref().map_or("", Authority::host);
            pattern.matches(name.trim_start_matches('[').trim_end_matches(']'))
        };
        let found = self
            .0
            .iter()
            .find(|route| route.path.matches(path) && route.host.as_ref().is_none_or(is_for));
        found.map(|route| &route.target)
    }

    /// Iterates over the routes in the order in which they are tried.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.0.iter()
    }

    /// Iterates over the HTTP servers of all routes, with the name of the route of each.
    pub fn members(&self) -> impl Iterator<Item = (String, &Member)> {
        self.0.iter().flat_map(|route| {
            let members = match &route.target {
                Target::Http(group) => group.members(),
                Target::Stdio(_) | Target::Feed(_) => &[],
            };
            members.iter().map(|member| (route.name(), &**member))
        })
    }

    /// Iterates over the targets of all routes.
    pub fn targets(&self) -> impl Iterator<Item = &Target> {
        self.0.iter().map(|route| &route.target)
    }
}

impl Route {
    /// Returns the route's name for logs and reports.
    #[must_use]
    pub fn name(&self) -> String {
        name_of(self.host.as_ref(), &self.path)
    }
}

/// Returns the name for logs and reports of a route with this `host` and `path`.
#[must_use]
pub fn name_of(host: Option<&HostPattern>, path: &PathPrefix) -> String {
    let host = host.map(ToString::to_string);
    host.unwrap_or_default() + path.as_str()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use lifecycle_proxy_overload::breaker::Settings;

    fn group(upstream: &str) -> Group {
        let settings = Settings {
            failures: 1,
            open: Duration::from_secs(10),
        };
        Group::new(&[upstream.parse().unwrap()], settings)
    }

    fn route(host: Option<&str>, path: &str, upstream: &str) -> Route {
        Route {
            host: host.map(|host| host.parse().unwrap()),
            path: path.parse().unwrap(),
            target: Target::Http(Arc::new(group(upstream))),
        }
    }

    fn found(routes: &Routes, host: &str, path: &str) -> Option<String> {
        let host = HeaderValue::from_str(host).unwrap();
        match routes.find(Some(&host), path)? {
            Target::Http(group) => Some(group.to_string()),
            Target::Stdio(_) | Target::Feed(_) => None,
        }
    }

    #[test]
    fn the_most_specific_route_wins() {
        let routes = Routes::new(vec![
            route(None, "/", "http://any"),
            route(None, "/api", "http://api"),
            route(Some("*.example"), "/", "http://under"),
            route(Some("a.example"), "/", "http://a"),
            route(Some("a.example"), "/api/v1", "http://a-v1"),
        ]);
        for (host, path, upstream) in [
            ("other", "/", "http://any"),
            ("other", "/api", "http://api"),
            ("other:80", "/api/x", "http://api"),
            ("other", "/apix", "http://any"),
            ("b.example", "/api", "http://under"),
            ("A.example:8080", "/api", "http://a"),
            ("a.example", "/api/v1/x", "http://a-v1"),
            ("[::1]:80", "/", "http://any"),
        ] {
            assert_eq!(
                found(&routes, host, path).unwrap(),
                upstream,
                "{host}{path}"
            );
        }
        assert!(
            Routes::new(vec![route(Some("a"), "/", "http://a")])
                .find(None, "/")
                .is_none()
        );
    }
}

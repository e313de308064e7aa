//! Which request goes where.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use hyper::header::HeaderValue;
use hyper::http::uri::Authority;
use tracing::{info, warn};

use crate::config::hosts::HostPattern;
use crate::config::{PathPrefix, Upstream};
use crate::programs::stdio::StdioClient;
use crate::protection::breaker::{Breaker, Settings, Ticket};
use crate::routing::sticky::Sticky;
use crate::streams::feed::FeedClient;

/// All routes, the one that says most first.
#[derive(Debug)]
pub struct Routes(Vec<Route>);

/// Some requests, and where they go.
#[derive(Debug)]
pub struct Route {
    /// The host they are for; any, if there is none.
    pub host: Option<HostPattern>,
    /// What their path begins with.
    pub path: PathPrefix,
    /// Where they go.
    pub target: Target,
}

/// Where requests go.
#[derive(Clone, Debug)]
pub enum Target {
    /// To one of several equal HTTP servers.
    Http(Arc<Group>),
    /// To a program.
    Stdio(StdioClient),
    /// To a stream of events that all clients share.
    Feed(FeedClient),
}

impl Routes {
    /// Sorts them: hosts go before none, names before wildcards, longer ones
    /// before shorter ones, and so for paths.
    #[must_use]
    pub fn new(mut routes: Vec<Route>) -> Self {
        routes.sort_by_key(|route| {
            let host = route.host.as_ref().map(HostPattern::weight);
            std::cmp::Reverse((host, route.path.len()))
        });
        Self(routes)
    }

    /// The target for a request.
    #[must_use]
    pub fn find(&self, host: Option<&HeaderValue>, path: &str) -> Option<&Target> {
        let authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
        let name = authority.as_ref().map_or("", Authority::host);
        let name = name.trim_start_matches('[').trim_end_matches(']');
        let found = self.0.iter().find(|route| {
            let host = route.host.as_ref().is_none_or(|host| host.matches(name));
            host && route.path.matches(path)
        });
        found.map(|route| &route.target)
    }

    /// All of them, in the order in which they are tried.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.0.iter()
    }

    /// All HTTP servers, each with what its route is called.
    pub fn members(&self) -> impl Iterator<Item = (String, &Member)> {
        self.0.iter().flat_map(|route| {
            let members = match &route.target {
                Target::Http(group) => group.members(),
                Target::Stdio(_) | Target::Feed(_) => &[],
            };
            members.iter().map(|member| (route.name(), &**member))
        })
    }

    /// All targets.
    pub fn targets(&self) -> impl Iterator<Item = &Target> {
        self.0.iter().map(|route| &route.target)
    }
}

impl Route {
    /// What it is called in reports.
    #[must_use]
    pub fn name(&self) -> String {
        name_of(self.host.as_ref(), &self.path)
    }
}

/// What a route for `host` and `path` is called in reports.
#[must_use]
pub fn name_of(host: Option<&HostPattern>, path: &PathPrefix) -> String {
    let host = host.map(ToString::to_string);
    host.unwrap_or_default() + path.as_str()
}

/// HTTP servers that answer the same requests, each in its turn.
#[derive(Debug)]
pub struct Group {
    members: Vec<Arc<Member>>,
    next: AtomicUsize,
    sticky: Option<Sticky>,
}

/// One of them.
#[derive(Debug)]
pub struct Member {
    /// Where it is.
    pub upstream: Upstream,
    /// Opens when it fails again and again.
    pub breaker: Breaker,
    /// What its health check last said.
    healthy: AtomicBool,
}

/// A member, and leave to try it.
#[derive(Debug)]
pub struct Pick {
    /// Who.
    pub member: Arc<Member>,
    /// For whoever knows how it went.
    pub ticket: Ticket,
}

impl Group {
    /// A group of these, all taken to be well.
    #[must_use]
    pub fn new(upstreams: &[Upstream], settings: Settings) -> Self {
        let member = |upstream: &Upstream| {
            Arc::new(Member {
                upstream: upstream.clone(),
                breaker: Breaker::new(settings),
                healthy: AtomicBool::new(true),
            })
        };
        Self {
            members: upstreams.iter().map(member).collect(),
            next: AtomicUsize::new(0),
            sticky: None,
        }
    }

    /// The same, where a client is always sent to the same one.
    #[must_use]
    pub fn with(self, sticky: Option<Sticky>) -> Self {
        Self { sticky, ..self }
    }

    /// Who remembers the clients, if somebody does.
    #[must_use]
    pub const fn sticky(&self) -> Option<&Sticky> {
        self.sticky.as_ref()
    }

    /// `member`, if that is well; else the next one that is.
    pub fn pick_or(&self, member: Option<Arc<Member>>) -> Option<Pick> {
        let wanted = member.filter(|member| member.is_healthy());
        let wanted = wanted.and_then(|member| {
            let ticket = member.breaker.admit()?;
            Some(Pick { member, ticket })
        });
        wanted.or_else(|| self.pick())
    }

    /// The next member that is well. None if there is none.
    pub fn pick(&self) -> Option<Pick> {
        // Relaxed: nothing hangs on the order but fairness.
        let first = self.next.fetch_add(1, Ordering::Relaxed) % self.members.len().max(1);
        let (before, after) = self.members.split_at_checked(first)?;
        after.iter().chain(before).find_map(|member| {
            if !member.is_healthy() {
                return None;
            }
            member.breaker.admit().map(|ticket| Pick {
                member: member.clone(),
                ticket,
            })
        })
    }

    /// The next one after `member` that is well, if there is another.
    #[must_use]
    pub fn next_after(&self, member: &Arc<Member>) -> Option<Arc<Member>> {
        let is_it = |other: &Arc<Member>| Arc::ptr_eq(other, member);
        let (before, from) = self.members.split_at(self.members.iter().position(is_it)?);
        let mut others = from[1..].iter().chain(before);
        others.find(|other| other.is_healthy()).cloned()
    }

    /// All of them.
    #[must_use]
    pub fn members(&self) -> &[Arc<Member>] {
        &self.members
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, member) in self.members.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{}", member.upstream)?;
        }
        Ok(())
    }
}

impl Member {
    /// Whether its health check last went well.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    /// Enters what a health check said.
    pub fn checked(&self, healthy: bool) {
        let upstream = &self.upstream;
        match (self.healthy.swap(healthy, Ordering::Relaxed), healthy) {
            (true, false) => warn!(%upstream, "the upstream is not healthy"),
            (false, true) => info!(%upstream, "the upstream is healthy again"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SETTINGS: Settings = Settings {
        failures: 1,
        open: Duration::from_secs(10),
    };

    fn group(addresses: &[&str]) -> Group {
        let upstreams: Vec<_> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        Group::new(&upstreams, SETTINGS)
    }

    fn route(host: Option<&str>, path: &str, upstream: &str) -> Route {
        Route {
            host: host.map(|host| host.parse().unwrap()),
            path: path.parse().unwrap(),
            target: Target::Http(Arc::new(group(&[upstream]))),
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
    fn the_route_that_says_most_wins() {
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

    fn name(pick: Pick) -> String {
        pick.ticket.succeeded();
        pick.member.upstream.to_string()
    }

    #[tokio::test(start_paused = true)]
    async fn members_take_turns_and_those_that_are_not_well_are_passed_over() {
        let group = group(&["http://a", "http://b", "http://c"]);
        let turns: Vec<_> = (0..4).map(|_| name(group.pick().unwrap())).collect();
        assert_eq!(turns, ["http://a", "http://b", "http://c", "http://a"]);

        group.members()[1].checked(false);
        group.members()[2].breaker.admit().unwrap().failed();
        for _ in 0..5 {
            assert_eq!(name(group.pick().unwrap()), "http://a");
        }
        group.members()[0].checked(false);
        assert!(group.pick().is_none());
        group.members()[1].checked(true);
        assert_eq!(name(group.pick().unwrap()), "http://b");
    }
}

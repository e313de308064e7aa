//! A group of equal upstreams, and the choice of one for a request.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lifecycle_proxy_overload::breaker::{Settings, Ticket};

use crate::config::Upstream;
use crate::routing::sticky::Sticky;
use crate::upstream::member::Member;

/// A group of equal HTTP servers, which get requests in turn.
#[derive(Debug)]
pub struct Group {
    members: Vec<Arc<Member>>,
    next: AtomicUsize,
    sticky: Option<Sticky>,
}

/// A chosen member, with a ticket of its breaker for one request.
#[derive(Debug)]
pub struct Pick<'a> {
    /// The chosen member.
    pub member: &'a Arc<Member>,
    /// The breaker's ticket, with which the caller reports whether the request succeeded.
    pub ticket: Ticket<'a>,
}

impl Group {
    /// Creates a group of these upstreams. All are considered healthy until a health check fails.
    #[must_use]
    pub fn new(upstreams: &[Upstream], settings: Settings) -> Self {
        let member = |upstream| Arc::new(Member::new(upstream, settings));
        Self {
            members: upstreams.iter().map(member).collect(),
            next: AtomicUsize::new(0),
            sticky: None,
        }
    }

    /// Sets the affinity of clients to members, with which a client stays with one member.
    #[must_use]
    pub fn with(self, sticky: Option<Sticky>) -> Self {
        Self { sticky, ..self }
    }

    /// Returns the affinity of clients, if it is configured.
    #[must_use]
    pub const fn sticky(&self) -> Option<&Sticky> {
        self.sticky.as_ref()
    }

    /// Picks `member` if it is healthy and its breaker admits a request. Otherwise picks the next
    /// such member.
    pub fn pick_or<'a>(&'a self, member: Option<&'a Arc<Member>>) -> Option<Pick<'a>> {
        let wanted = member.filter(|member| member.is_healthy());
        let wanted = wanted.and_then(|member| {
            let ticket = member.breaker.admit()?;
            Some(Pick { member, ticket })
        });
        wanted.or_else(|| self.pick())
    }

    /// Picks the next member that is healthy and whose breaker admits a request.
    pub fn pick(&self) -> Option<Pick<'_>> {
        let first = match &self.members[..] {
            // A turn is not counted here, since all threads would write to the counter for nothing.
            [] | [_] => 0,
            // Relaxed, since the order of calls only affects how evenly members are chosen.
            members => self.next.fetch_add(1, Ordering::Relaxed) % members.len(),
        };
        let (before, after) = self.members.split_at_checked(first)?;
        after.iter().chain(before).find_map(|member| {
            if !member.is_healthy() {
                return None;
            }
            let ticket = member.breaker.admit()?;
            Some(Pick { member, ticket })
        })
    }

    /// Returns the next healthy member after `member`, if the group has another healthy member.
    #[must_use]
    pub fn next_after(&self, member: &Arc<Member>) -> Option<&Arc<Member>> {
        let is_it = |other: &Arc<Member>| Arc::ptr_eq(other, member);
        let (before, from) = self.members.split_at(self.members.iter().position(is_it)?);
        let mut others = from[1..].iter().chain(before);
        others.find(|other| other.is_healthy())
    }

    /// Returns all members.
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

    fn name(pick: Pick<'_>) -> String {
        pick.ticket.succeeded();
        pick.member.upstream.to_string()
    }

    #[tokio::test(start_paused = true)]
    async fn members_take_turns_and_unhealthy_ones_are_skipped() {
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

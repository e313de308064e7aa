//! The creation of the routes, and of the parts that they need: programs, feeds, and health checks.

use std::collections::BTreeMap;
use std::sync::Arc;

use lifecycle_http::{HttpServer, Limits};
use lifecycle_proxy_feeds::Feed;
use lifecycle_proxy_overload::breaker;
use lifecycle_proxy_programs::{StdioPool, Times};
use lifecycle_proxy_sessions::Sessions;
use lifecycle_runtime::TaskGroup;
use tracing::{info, warn};

use super::shared::{Shared, spawn};
use crate::app::embedded;
use crate::config::{self, Config, Health, PathPrefix, Upstream};
use crate::inbound::listener::BindError;
use crate::routing::group::Group;
use crate::routing::routes::{Route, Routes, Target, name_of};
use crate::routing::sticky::{Affinity, Sticky};
use crate::streams::feed;
use crate::upstream::{Client, health};

/// Returns the upstream for requests without a route, and the demo upstream if it had to be
/// started.
pub(super) async fn upstream_of(
    config: &Config,
    limits: Limits,
) -> Result<(Option<Upstream>, Option<HttpServer>), BindError> {
    if let Some(upstream) = &config.upstream {
        info!(%upstream, "passing requests on");
        return Ok((Some(upstream.clone()), None));
    }
    if !config.routes.is_empty() {
        return Ok((None, None));
    }
    let embedded = embedded::start(limits).await?;
    // `embedded::start` binds exactly one address.
    let address = embedded.addresses()[0];
    let upstream = Upstream::from(address);
    warn!(%upstream, "no upstream is configured: passing requests on to the built-in demo");
    Ok((Some(upstream), Some(embedded)))
}

/// The parts that the server owns and shuts down, each under the name of its route.
#[derive(Default)]
pub(super) struct Owned {
    pub(super) stdio: BTreeMap<String, StdioPool>,
    pub(super) feeds: BTreeMap<String, Feed>,
    pub(super) sticky: BTreeMap<String, Sessions<Affinity>>,
}

/// Creates the routes, their parts, and the health checks of their upstreams.
pub(super) fn routes_of(
    shared: &Shared,
    upstream: Option<Upstream>,
    client: &Client,
) -> (Arc<Routes>, Owned) {
    let Shared {
        config,
        background,
        sessions,
        ..
    } = shared;
    let settings = breaker::Settings {
        failures: config.breaker.failures.get(),
        open: config.breaker.open.duration(),
    };
    let times = Times {
        answer: config.timeouts.response.duration(),
        heartbeat: config.timeouts.heartbeat(),
    };
    let mut owned = Owned::default();
    let mut routes = Vec::with_capacity(config.routes.len() + 1);
    for route in &config.routes {
        let name = name_of(route.host.as_ref(), &route.path);
        let target = match &route.target {
            config::Target::Upstreams(upstreams, health) => {
                let sticky = route.sticky.as_ref().map(|sticky| {
                    let (clients, sticky) = Sticky::new(sticky, &route.path, sessions);
                    owned.sticky.insert(name.clone(), clients);
                    sticky
                });
                let group = Arc::new(Group::new(upstreams, settings).with(sticky));
                info!(route = name, upstreams = %group, "passing requests on");
                watch(&group, health.as_ref(), client, background);
                Target::Http(group)
            }
            config::Target::Stdio(stdio) => {
                let (pool, program) = StdioPool::new(stdio, times, sessions);
                info!(route = name, %program, "passing requests on");
                owned.stdio.insert(name, pool);
                Target::Stdio(program)
            }
            config::Target::Feed(feed) => {
                let feed = feed::start(feed, &config.timeouts, client.clone());
                let listening = feed.client();
                info!(route = name, feed = %listening, "listening to events");
                owned.feeds.insert(name, feed);
                Target::Feed(listening)
            }
        };
        routes.push(Route {
            host: route.host.clone(),
            path: route.path.clone(),
            target,
        });
    }
    routes.extend(upstream.map(|upstream| Route {
        host: None,
        path: PathPrefix::default(),
        target: Target::Http(Arc::new(Group::new(&[upstream], settings))),
    }));
    (Arc::new(Routes::new(routes)), owned)
}

fn watch(group: &Group, health: Option<&Health>, client: &Client, background: &TaskGroup) {
    let Some(health) = health else { return };
    for member in group.members() {
        let check = health::watch(member.clone(), health.clone(), client.clone());
        spawn(background, format!("health of {}", member.upstream), check);
    }
}

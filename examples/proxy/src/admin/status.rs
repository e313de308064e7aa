//! A snapshot of the proxy's status, as JSON.

mod shutdown;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use lifecycle_proxy_overload::breaker::Stage;
use lifecycle_proxy_overload::load::{Load, Resource};
use lifecycle_runtime::{Acceptor, Connection, Readiness, ResolvedPlan, ShutdownHandle};
use serde::Serialize;
use tokio::time::Instant;

use self::shutdown::Shutdown;
use crate::VERSION;
use crate::metrics::{self, Metrics};
use crate::routing::routes::{Route, Routes, Target};
use crate::upstream::member::Member;

/// The largest number of connections that a snapshot lists. All connections are counted.
const MOST_ROWS: usize = 100;

/// The sources of the values in a snapshot.
#[derive(Debug)]
pub struct Sources {
    /// The metrics of the traffic.
    pub metrics: Arc<Metrics>,
    /// The client connections.
    pub connections: Acceptor,
    /// The routes, with their upstreams, breakers and programs.
    pub routes: Arc<Routes>,
    /// The resources that the process uses.
    pub load: Arc<Load>,
    /// The readiness of the proxy.
    pub readiness: Readiness,
    /// The handle of the shutdown, which shows the state of its steps.
    pub handle: ShutdownHandle,
    /// The shutdown plan.
    pub plan: ResolvedPlan,
    /// The duration of the lame duck, for which the proxy goes on serving before the shutdown.
    pub lame_duck: Duration,
    /// Whether actions are possible, because a token is configured.
    pub actions: bool,
}

/// A reader of the status. It never blocks the parts whose status it reads.
#[derive(Debug)]
pub struct Status {
    sources: Sources,
    started: Instant,
}

/// The whole status of the proxy at one time.
#[derive(Debug, Serialize)]
struct Snapshot<'a> {
    process: Process,
    /// The state that a readiness probe gets.
    readiness: String,
    phase: Phase,
    /// Whether actions are possible, because a token is configured.
    actions: bool,
    connections: Connections,
    numbers: metrics::Snapshot,
    upstreams: Vec<UpstreamRow>,
    feeds: Vec<FeedRow>,
    programs: Vec<ProgramRow>,
    load: LoadState,
    plan: &'a ResolvedPlan,
    shutdown: Option<Shutdown>,
}

#[derive(Debug, Serialize)]
struct Process {
    version: &'static str,
    pid: u32,
    uptime_ms: u64,
    /// The current time, in milliseconds since 1970.
    now: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Phase {
    Serving,
    LameDuck,
    Draining,
    Ended,
}

#[derive(Debug, Serialize)]
struct Connections {
    count: usize,
    /// The rows of the oldest connections.
    rows: Vec<ConnectionRow>,
}

#[derive(Debug, Serialize)]
struct ConnectionRow {
    peer: String,
    protocol: Option<&'static str>,
    age_ms: u64,
    does: Option<String>,
}

#[derive(Debug, Serialize)]
struct UpstreamRow {
    route: String,
    upstream: String,
    healthy: bool,
    breaker: &'static str,
    /// The time for which the breaker stays open, in milliseconds.
    pause_ms: Option<u64>,
    opened: u64,
}

#[derive(Debug, Serialize)]
struct FeedRow {
    route: String,
    state: &'static str,
    listeners: usize,
    events: u64,
    /// The number of clients that were disconnected because they fell behind.
    dropped: u64,
    opened: u64,
}

#[derive(Debug, Serialize)]
struct ProgramRow {
    route: String,
    program: String,
    running: usize,
    idle: usize,
    started: u64,
    sessions: u64,
}

#[derive(Debug, Serialize)]
struct LoadState {
    breaker: &'static str,
    used: Vec<Used>,
}

#[derive(Debug, Serialize)]
struct Used {
    name: &'static str,
    now: u64,
    peak: u64,
}

impl Connections {
    fn of(acceptor: &Acceptor) -> Self {
        let row = |connection: Connection| ConnectionRow {
            peer: connection.peer().to_string(),
            protocol: connection.protocol().map(protocol),
            age_ms: millis(connection.age()),
            does: connection.about(),
        };
        Self {
            count: acceptor.stats().active,
            rows: acceptor.list().take(MOST_ROWS).map(row).collect(),
        }
    }
}

/// Returns the usual name of a protocol.
fn protocol(name: &'static str) -> &'static str {
    match name {
        "h1" => "HTTP/1",
        "h2" => "HTTP/2",
        other => other,
    }
}

impl Status {
    /// Creates a reader. Takes the current time as the start of the process.
    #[must_use]
    pub fn new(sources: Sources) -> Self {
        Self {
            sources,
            started: Instant::now(),
        }
    }

    /// Returns the sources of the values.
    #[must_use]
    pub const fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Returns the current status as JSON.
    #[must_use]
    pub fn json(&self) -> Bytes {
        let text = serde_json::to_vec(&self.snapshot());
        // Never falls back to the default: serialization cannot fail, since all keys are strings,
        // and all numbers are finite.
        text.unwrap_or_default().into()
    }

    fn snapshot(&self) -> Snapshot<'_> {
        let sources = &self.sources;
        let shutdown = Shutdown::of(&sources.handle, sources.lame_duck);
        let progress = sources.handle.progress();
        let phase = match &shutdown {
            None => Phase::Serving,
            Some(_) if progress.remaining().is_some() => Phase::Draining,
            Some(_) if !progress.steps().is_empty() => Phase::Ended,
            Some(_) if sources.lame_duck.is_zero() => Phase::Draining,
            Some(_) => Phase::LameDuck,
        };
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Snapshot {
            process: Process {
                version: VERSION,
                pid: std::process::id(),
                uptime_ms: millis(self.started.elapsed()),
                now: millis(since_1970.unwrap_or_default()),
            },
            readiness: sources.readiness.state().to_string(),
            phase,
            actions: sources.actions,
            connections: Connections::of(&sources.connections),
            numbers: sources.metrics.snapshot(),
            upstreams: sources.routes.iter().flat_map(upstreams).collect(),
            feeds: sources.routes.iter().filter_map(feed).collect(),
            programs: sources.routes.iter().filter_map(program).collect(),
            load: load(&sources.load),
            plan: &sources.plan,
            shutdown,
        }
    }
}

fn upstreams(route: &Route) -> Vec<UpstreamRow> {
    let Target::Http(group) = &route.target else {
        return Vec::new();
    };
    let row = |member: &Arc<Member>| UpstreamRow {
        route: route.name(),
        upstream: member.upstream.to_string(),
        healthy: member.is_healthy(),
        breaker: stage_name(member.breaker.stage()),
        pause_ms: member.breaker.pause().map(millis),
        opened: member.breaker.opened(),
    };
    group.members().iter().map(row).collect()
}

fn feed(route: &Route) -> Option<FeedRow> {
    let Target::Feed(feed) = &route.target else {
        return None;
    };
    let counts = feed.counts();
    Some(FeedRow {
        route: route.name(),
        state: counts.state.name(),
        listeners: counts.broadcast.listeners,
        events: counts.broadcast.events,
        dropped: counts.broadcast.dropped,
        opened: counts.opened,
    })
}

fn program(route: &Route) -> Option<ProgramRow> {
    let Target::Stdio(program) = &route.target else {
        return None;
    };
    let counts = program.counts();
    Some(ProgramRow {
        route: route.name(),
        program: program.to_string(),
        running: counts.running,
        idle: counts.idle,
        started: counts.started,
        sessions: counts.sessions,
    })
}

fn load(load: &Load) -> LoadState {
    let usage = load.usage();
    let used = Resource::ALL.map(|resource| {
        let used = usage[resource as usize];
        Used {
            name: resource.name(),
            now: used.active,
            peak: used.peak,
        }
    });
    LoadState {
        breaker: stage_name(load.stage()),
        used: used.into(),
    }
}

const fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Closed => "closed",
        Stage::HalfOpen => "half_open",
        Stage::Open => "open",
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

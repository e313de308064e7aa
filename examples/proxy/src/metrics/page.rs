//! The metrics as OpenMetrics text. Label values come from the configuration or from the code, and
//! never from a request. So the number of different values is bounded.

use std::fmt;
use std::sync::Arc;

use lifecycle_proxy_common::Used;
use lifecycle_proxy_feeds::Counts as FeedCounts;
use lifecycle_proxy_feeds::source::State;
use lifecycle_proxy_overload::breaker::Stage;
use lifecycle_proxy_overload::load::Resource;
use lifecycle_proxy_passthrough::Fate;
use lifecycle_proxy_programs::Counts;
use lifecycle_runtime::{Outcome, ShutdownHandle};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::Metrics;
use crate::routing::routes::Target;
use crate::upstream::member::Member;

/// The content type of the text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The page that shows the metrics.
#[derive(Debug)]
pub struct Page(Registry);

impl Page {
    /// Creates the page of these metrics.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        let mut registry = Registry::with_prefix("proxy");
        registry.register_collector(Box::new(MetricsCollector(metrics)));
        Self(registry)
    }

    /// Renders the current numbers.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(8192);
        // Ignores the result, since writing to a string cannot fail.
        let _ = encode(&mut text, &self.0);
        text
    }
}

#[derive(Debug)]
struct MetricsCollector(Arc<Metrics>);

impl Collector for MetricsCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut to = Writer(encoder);
        self.encode_connections(&mut to)?;
        self.encode_requests(&mut to)?;
        self.encode_upstreams(&mut to)?;
        self.encode_programs(&mut to)?;
        self.encode_feeds(&mut to)?;
        self.encode_load(&mut to)?;
        encode_shutdown(&self.0.sources.handle, &mut to)
    }
}

#[rustfmt::skip]
impl MetricsCollector {
    fn encode_connections(&self, to: &mut Writer<'_>) -> fmt::Result {
        let now = self.0.snapshot();
        let sources = &self.0.sources;
        to.gauge("connections_active", "Open client connections.", now.connections_active)?;
        to.gauge("connections_peak", "Peak of open client connections.", now.connections_peak)?;
        to.counter("connections_accepted", "Client connections accepted.", now.connections_accepted)?;
        to.counter("connections_refused", "Client connections refused at the limit.", now.connections_refused)?;
        to.counter("connections_expired", "Client connections ended by a time limit.", now.connections_expired)?;
        to.counter("connections_cut", "Client connections cut by a shutdown.", now.connections_cut)?;
        to.gauge("websockets_active", "Open WebSocket connections.", sources.websockets.count() as u64)?;
        let fates = Fate::ALL.map(|fate| ([("fate", fate.name())], sources.tls.of(fate)));
        to.counters("tls_connections", "TLS connections, by outcome.", &fates)
    }

    fn encode_requests(&self, to: &mut Writer<'_>) -> fmt::Result {
        let now = self.0.snapshot();
        to.counter("requests", "Requests.", now.requests)?;
        to.gauge("requests_unfinished", "Requests in flight.", now.requests_unfinished)?;
        to.counter("requests_aborted", "Requests whose response was incomplete.", now.requests_aborted)?;
        let classes = [
            ([("class", "1xx")], now.responses_1xx),
            ([("class", "2xx")], now.responses_2xx),
            ([("class", "3xx")], now.responses_3xx),
            ([("class", "4xx")], now.responses_4xx),
            ([("class", "5xx")], now.responses_5xx),
        ];
        to.counters("responses", "Responses, by the class of their status.", &classes)?;
        to.counter("response_bytes", "Bytes of response bodies.", now.response_bytes)?;
        let durations = &self.0.traffic.sums().durations;
        to.metric("request_duration_seconds", "Time from a request's head to the last byte of its response.", durations)?;
        to.counter("upstream_failures", "Requests that an upstream failed to answer.", now.upstream_failures)?;
        to.counter("upstream_timeouts", "Upstream failures that were timeouts.", now.upstream_timeouts)?;
        let fates = [
            ([("fate", "written")], now.tape_written),
            ([("fate", "dropped")], now.tape_dropped),
        ];
        to.counters("tape_entries", "Entries of the traffic tape, written or dropped.", &fates)
    }

    fn encode_upstreams(&self, to: &mut Writer<'_>) -> fmt::Result {
        let mut members = Vec::new();
        for target in self.0.sources.routes.targets() {
            if let Target::Http(group) = target {
                members.extend(group.members());
            }
        }
        // Sorted, so that members with the same upstream are neighbours: two routes may share an
        // upstream, but each set of labels must occur once.
        members.sort_by_cached_key(|member| member.upstream.to_string());
        let samples = |value: &dyn Fn(&[&Arc<Member>]) -> u64| -> Vec<_> {
            let same = members.chunk_by(|one, other| one.upstream == other.upstream);
            same.map(|same| ([("upstream", same[0].upstream.to_string())], value(same))).collect()
        };
        let stage = samples(&|same| same.iter().map(|member| stage_number(member.breaker.stage())).max().unwrap_or(0));
        let opened = samples(&|same| same.iter().map(|member| member.breaker.opened()).sum());
        let healthy = samples(&|same| u64::from(same.iter().all(|member| member.is_healthy())));
        let sticky = self.0.sources.routes.targets().enumerate().filter_map(|(index, target)| match target {
            Target::Http(group) => Some(([("route", index.to_string())], group.sticky()?.active())),
            _ => None,
        });
        to.gauges("sticky_active", "Clients with affinity to an upstream.", &sticky.collect::<Vec<_>>())?;
        to.gauges("upstream_breaker", "State of the breaker: 0 closed, 1 half open, 2 open.", &stage)?;
        to.counters("upstream_breaker_opened", "Times the breaker opened.", &opened)?;
        to.gauges("upstream_healthy", "Result of the last health check: 1 healthy, 0 unhealthy.", &healthy)
    }

    fn encode_programs(&self, to: &mut Writer<'_>) -> fmt::Result {
        let mut programs = Vec::new();
        for (index, target) in self.0.sources.routes.targets().enumerate() {
            if let Target::Stdio(program) = target {
                // The route's index distinguishes two routes that run the same program.
                let labels = [("program", program.to_string()), ("route", index.to_string())];
                programs.push((labels, program.counts()));
            }
        }
        let samples = |value: fn(&Counts) -> u64| -> Vec<_> {
            programs.iter().map(|(labels, counts)| (labels.clone(), value(counts))).collect()
        };
        to.gauges("processes_running", "Running subprocesses.", &samples(|counts| counts.running as u64))?;
        to.gauges("processes_idle", "Idle subprocesses.", &samples(|counts| counts.idle as u64))?;
        to.gauges("sessions_active", "Clients that have a subprocess of their own.", &samples(|counts| counts.sessions))?;
        to.counters("processes_started", "Subprocesses that were started.", &samples(|counts| counts.started))
    }

    fn encode_feeds(&self, to: &mut Writer<'_>) -> fmt::Result {
        let mut feeds = Vec::new();
        for (index, target) in self.0.sources.routes.targets().enumerate() {
            if let Target::Feed(feed) = target {
                feeds.push(([("feed", feed.to_string()), ("route", index.to_string())], feed.counts()));
            }
        }
        let samples = |value: fn(&FeedCounts) -> u64| -> Vec<_> {
            feeds.iter().map(|(labels, counts)| (labels.clone(), value(counts))).collect()
        };
        let states = feeds.iter().flat_map(|([feed, route], counts)| {
            State::NAMES.map(|name| {
                let state = ("state", name.to_owned());
                ([feed.clone(), route.clone(), state], u64::from(counts.state.name() == name))
            })
        });
        to.gauges("feed_state", "State of the feed's source: 1 for the current state.", &states.collect::<Vec<_>>())?;
        to.counters("feed_opened", "Streams that the source has opened.", &samples(|counts| counts.opened))?;
        to.counters("feed_events", "Events published to listeners.", &samples(|counts| counts.broadcast.events))?;
        to.gauges("feed_listeners", "Listening clients.", &samples(|counts| counts.broadcast.listeners as u64))?;
        to.counters("feed_dropped", "Clients disconnected for falling behind.", &samples(|counts| counts.broadcast.dropped))
    }

    fn encode_load(&self, to: &mut Writer<'_>) -> fmt::Result {
        let load = &self.0.sources.load;
        let usage = load.usage();
        let of = |value: fn(Used) -> u64| {
            Resource::ALL.map(|resource| ([("resource", resource.name())], value(usage[resource as usize])))
        };
        let (used, peak) = (of(|used| used.active), of(|used| used.peak));
        to.gauges("resource_used", "Resources in use.", &used)?;
        to.gauges("resource_peak", "Peak of resources in use.", &peak)?;
        to.gauge("load_breaker", "State of the load breaker: 0 closed, 1 half open, 2 open.", stage_number(load.stage()))?;
        to.counter("load_breaker_opened", "Times the load breaker opened.", load.opened())?;
        to.counter("load_shed", "Requests and connections refused by the load breaker.", load.shed())
    }
}

/// Encodes the results of the shutdown steps that have ended. The plan bounds their number.
fn encode_shutdown(handle: &ShutdownHandle, to: &mut Writer<'_>) -> fmt::Result {
    let requested = u64::from(handle.is_requested());
    to.gauge(
        "shutdown_requested",
        "Whether a shutdown was requested.",
        requested,
    )?;
    let ended = handle.progress().ended();
    let steps: Vec<_> = ended
        .into_iter()
        .map(|(step, outcome)| {
            (
                [("step", step), ("outcome", outcome_name(&outcome).into())],
                1,
            )
        })
        .collect();
    to.gauges(
        "shutdown_step",
        "Ended steps of the shutdown, by outcome.",
        &steps,
    )
}

const fn outcome_name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Done => "done",
        Outcome::Failed(_) => "failed",
        Outcome::Panicked(_) => "panicked",
        Outcome::TimedOut { .. } => "timed_out",
        Outcome::Aborted => "aborted",
        Outcome::Skipped => "skipped",
        _ => "other",
    }
}

const fn stage_number(stage: Stage) -> u64 {
    match stage {
        Stage::Closed => 0,
        Stage::HalfOpen => 1,
        Stage::Open => 2,
    }
}

struct Writer<'a>(DescriptorEncoder<'a>);

/// A sample of a metric: its labels and its value.
type Sample<V, const N: usize> = ([(&'static str, V); N], u64);

impl Writer<'_> {
    fn metric(&mut self, name: &str, help: &str, metric: &impl EncodeMetric) -> fmt::Result {
        let encoder = self
            .0
            .encode_descriptor(name, help, None, metric.metric_type())?;
        metric.encode(encoder)
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.metric(name, help, &ConstGauge::new(signed(value)))
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.metric(name, help, &ConstCounter::new(value))
    }

    fn gauges<V: AsRef<str>, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        samples: &[Sample<V, N>],
    ) -> fmt::Result {
        self.family(name, help, MetricType::Gauge, samples, |value| {
            ConstGauge::new(signed(value))
        })
    }

    fn counters<V: AsRef<str>, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        samples: &[Sample<V, N>],
    ) -> fmt::Result {
        self.family(name, help, MetricType::Counter, samples, ConstCounter::new)
    }

    fn family<V: AsRef<str>, M: EncodeMetric, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        samples: &[Sample<V, N>],
        metric: impl Fn(u64) -> M,
    ) -> fmt::Result {
        if samples.is_empty() {
            return Ok(());
        }
        let mut encoder = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in samples {
            let labels = labels.each_ref().map(|(key, value)| (*key, value.as_ref()));
            metric(*value).encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

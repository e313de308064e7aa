//! The numbers as OpenMetrics. Labels have values from the configuration or from
//! this code only, never from a request, so there is a bound to how many there
//! are.

use std::fmt;
use std::sync::Arc;

use lifecycle_runtime::{Outcome, ShutdownHandle};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::Metrics;
use crate::programs::stdio::Counts;
use crate::protection::breaker::Stage;
use crate::protection::load::{Resource, Used};
use crate::routing::routes::Target;
use crate::streams::feed;
use crate::streams::feed::source::State;
use crate::streams::sni::Fate;
use crate::upstream::member::Member;

/// The content type that goes with the text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is served to whoever asks for the numbers.
#[derive(Debug)]
pub struct Page(Registry);

impl Page {
    /// The page of these numbers.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        let mut registry = Registry::with_prefix("proxy");
        registry.register_collector(Box::new(Numbers(metrics)));
        Self(registry)
    }

    /// As it is now.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(8192);
        // A string takes everything.
        let _ = encode(&mut text, &self.0);
        text
    }
}

#[derive(Debug)]
struct Numbers(Arc<Metrics>);

impl Collector for Numbers {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut to = Writer(encoder);
        self.of_connections(&mut to)?;
        self.of_requests(&mut to)?;
        self.of_upstreams(&mut to)?;
        self.of_programs(&mut to)?;
        self.of_feeds(&mut to)?;
        self.of_load(&mut to)?;
        of_shutdown(&self.0.sources.handle, &mut to)
    }
}

#[rustfmt::skip]
impl Numbers {
    fn of_connections(&self, to: &mut Writer<'_>) -> fmt::Result {
        let now = self.0.snapshot();
        let sources = &self.0.sources;
        to.gauge("connections_active", "Client connections open now.", now.connections_active)?;
        to.gauge("connections_peak", "Client connections open at the same time, at most.", now.connections_peak)?;
        to.counter("connections_accepted", "Client connections served.", now.connections_accepted)?;
        to.counter("connections_refused", "Client connections above the limit.", now.connections_refused)?;
        to.counter("connections_expired", "Client connections ended by a time limit.", now.connections_expired)?;
        to.counter("connections_cut", "Client connections cut by a shutdown.", now.connections_cut)?;
        to.gauge("websockets_active", "WebSocket connections open now.", sources.websockets.count() as u64)?;
        let fates = Fate::ALL.map(|fate| ([("fate", fate.name())], sources.tls.of(fate)));
        to.counters("tls_connections", "TLS connections, by what became of them.", &fates)
    }

    fn of_requests(&self, to: &mut Writer<'_>) -> fmt::Result {
        let now = self.0.snapshot();
        to.counter("requests", "Requests.", now.requests)?;
        to.gauge("requests_unfinished", "Requests being answered now.", now.requests_unfinished)?;
        to.counter("requests_aborted", "Requests whose response did not reach its end.", now.requests_aborted)?;
        let classes = [
            ([("class", "1xx")], now.responses_1xx),
            ([("class", "2xx")], now.responses_2xx),
            ([("class", "3xx")], now.responses_3xx),
            ([("class", "4xx")], now.responses_4xx),
            ([("class", "5xx")], now.responses_5xx),
        ];
        to.counters("responses", "Responses, by the class of their status.", &classes)?;
        to.counter("response_bytes", "Bytes of response bodies.", now.response_bytes)?;
        let durations = &self.0.durations;
        to.metric("request_duration_seconds", "From a request's head to the last byte of its response.", durations)?;
        to.counter("upstream_failures", "Requests that the upstream failed to answer.", now.upstream_failures)?;
        to.counter("upstream_timeouts", "Those of them where it took too long.", now.upstream_timeouts)?;
        let fates = [
            ([("fate", "written")], now.tape_written),
            ([("fate", "dropped")], now.tape_dropped),
        ];
        to.counters("tape_entries", "Exchanges on the traffic tape, or lost to it.", &fates)
    }

    fn of_upstreams(&self, to: &mut Writer<'_>) -> fmt::Result {
        let mut members = Vec::new();
        for target in self.0.sources.routes.targets() {
            if let Target::Http(group) = target {
                members.extend(group.members());
            }
        }
        // Two routes may have the same one; a set of labels is said once.
        members.sort_by_cached_key(|member| member.upstream.to_string());
        let samples = |value: &dyn Fn(&[&Arc<Member>]) -> u64| -> Vec<_> {
            let same = members.chunk_by(|one, other| one.upstream == other.upstream);
            same.map(|same| ([("upstream", same[0].upstream.to_string())], value(same))).collect()
        };
        let stage = samples(&|same| same.iter().map(|member| rank(member.breaker.stage())).max().unwrap_or(0));
        let opened = samples(&|same| same.iter().map(|member| member.breaker.opened()).sum());
        let healthy = samples(&|same| u64::from(same.iter().all(|member| member.is_healthy())));
        let sticky = self.0.sources.routes.targets().enumerate().filter_map(|(index, target)| match target {
            Target::Http(group) => Some(([("route", index.to_string())], group.sticky()?.active())),
            _ => None,
        });
        to.gauges("sticky_active", "Clients that belong to an upstream.", &sticky.collect::<Vec<_>>())?;
        to.gauges("upstream_breaker", "Whether requests pass: 0 all do, 1 one does, 2 none does.", &stage)?;
        to.counters("upstream_breaker_opened", "How often the breaker opened.", &opened)?;
        to.gauges("upstream_healthy", "What the health check last said.", &healthy)
    }

    fn of_programs(&self, to: &mut Writer<'_>) -> fmt::Result {
        let mut programs = Vec::new();
        for (index, target) in self.0.sources.routes.targets().enumerate() {
            if let Target::Stdio(program) = target {
                // Several routes may have the same program.
                let labels = [("program", program.to_string()), ("route", index.to_string())];
                programs.push((labels, program.counts()));
            }
        }
        let samples = |value: fn(&Counts) -> u64| -> Vec<_> {
            programs.iter().map(|(labels, counts)| (labels.clone(), value(counts))).collect()
        };
        to.gauges("processes_running", "Subprocesses that run.", &samples(|counts| counts.running as u64))?;
        to.gauges("processes_idle", "Those of them that wait for a request.", &samples(|counts| counts.idle as u64))?;
        to.gauges("sessions_active", "Clients that have a subprocess of their own.", &samples(|counts| counts.sessions))?;
        to.counters("processes_started", "Subprocesses that were started.", &samples(|counts| counts.started))
    }

    fn of_feeds(&self, to: &mut Writer<'_>) -> fmt::Result {
        let mut feeds = Vec::new();
        for (index, target) in self.0.sources.routes.targets().enumerate() {
            if let Target::Feed(feed) = target {
                feeds.push(([("feed", feed.to_string()), ("route", index.to_string())], feed.counts()));
            }
        }
        let samples = |value: fn(&feed::Counts) -> u64| -> Vec<_> {
            feeds.iter().map(|(labels, counts)| (labels.clone(), value(counts))).collect()
        };
        let states = feeds.iter().flat_map(|([feed, route], counts)| {
            State::NAMES.map(|name| {
                let state = ("state", name.to_owned());
                ([feed.clone(), route.clone(), state], u64::from(counts.state.name() == name))
            })
        });
        to.gauges("feed_state", "Where the feed's source stands: 1 at one of them.", &states.collect::<Vec<_>>())?;
        to.counters("feed_opened", "How often a stream of the source began.", &samples(|counts| counts.opened))?;
        to.counters("feed_events", "Events that were handed on.", &samples(|counts| counts.hub.events))?;
        to.gauges("feed_listeners", "Clients that listen.", &samples(|counts| counts.hub.listeners as u64))?;
        to.counters("feed_dropped", "Clients that fell too far behind.", &samples(|counts| counts.hub.dropped))
    }

    fn of_load(&self, to: &mut Writer<'_>) -> fmt::Result {
        let load = &self.0.sources.load;
        let usage = load.usage();
        let of = |value: fn(Used) -> u64| {
            Resource::ALL.map(|resource| ([("resource", resource.name())], value(usage[resource as usize])))
        };
        let (used, peak) = (of(|used| used.active), of(|used| used.peak));
        to.gauges("resource_used", "What the process uses.", &used)?;
        to.gauges("resource_peak", "What it used at most.", &peak)?;
        to.gauge("load_breaker", "Whether requests are taken: 0 all are, 1 some are, 2 none is.", rank(load.stage()))?;
        to.counter("load_breaker_opened", "How often that breaker opened.", load.opened())?;
        to.counter("load_shed", "Requests and connections that were refused by it.", load.shed())
    }
}

/// The steps of a shutdown that have ended, and how; the plan has so many.
fn of_shutdown(handle: &ShutdownHandle, to: &mut Writer<'_>) -> fmt::Result {
    let requested = u64::from(handle.is_requested());
    to.gauge(
        "shutdown_requested",
        "Whether the proxy is to end.",
        requested,
    )?;
    let ended = handle.progress().ended();
    let steps: Vec<_> = ended
        .into_iter()
        .map(|(step, outcome)| ([("step", step), ("outcome", word(&outcome).into())], 1))
        .collect();
    to.gauges(
        "shutdown_step",
        "Steps of the shutdown that have ended.",
        &steps,
    )
}

const fn word(outcome: &Outcome) -> &'static str {
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

const fn rank(stage: Stage) -> u64 {
    match stage {
        Stage::Closed => 0,
        Stage::HalfOpen => 1,
        Stage::Open => 2,
    }
}

struct Writer<'a>(DescriptorEncoder<'a>);

/// A value with its labels.
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

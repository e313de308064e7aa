//! Metrics of the traffic. They are served as OpenMetrics text, and saved to a file at the end.

mod page;
mod traffic;

use std::fmt;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::StatusCode;
use lifecycle_proxy_overload::load::{Load, Resource};
use lifecycle_proxy_records::tape::TapeRecorder;
use lifecycle_runtime::{ConnectionStats, ShutdownHandle};
use serde::Serialize;
use tracing::info;

use crate::message::fault::Fault;
use crate::routing::routes::{Routes, Target};
use crate::streams::websocket;
use lifecycle_proxy_passthrough as tls;

use traffic::Traffic;

pub use page::{CONTENT_TYPE, Page};

/// Sources of the numbers that other parts count.
pub struct Sources {
    /// A function that returns the numbers of client connections.
    pub connections: Box<dyn Fn() -> ConnectionStats + Send + Sync>,
    /// The recorder of the traffic tape, if a tape is configured.
    pub recorder: Option<Arc<TapeRecorder>>,
    /// The routes, with their upstreams, breakers and programs.
    pub routes: Arc<Routes>,
    /// The resources that the process uses.
    pub load: Arc<Load>,
    /// The counter of open WebSocket connections.
    pub websockets: websocket::Open,
    /// The counters of TLS connections.
    pub tls: tls::Counts,
    /// The handle of the shutdown, which shows the results of its steps.
    pub handle: ShutdownHandle,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}

/// Counters of requests, and the sources of all other numbers.
pub struct Metrics {
    traffic: Traffic,
    upstream_failures: AtomicU64,
    upstream_timeouts: AtomicU64,
    sources: Sources,
    file: Option<PathBuf>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.snapshot().fmt(f)
    }
}

/// A snapshot of all numbers. The numbers are read one after the other. So a part can be larger
/// than its total, if it was counted up in between.
#[derive(Clone, Copy, Debug, Serialize)]
#[expect(missing_docs, reason = "each is described where it is served")]
pub struct Snapshot {
    pub connections_active: u64,
    pub connections_peak: u64,
    pub connections_accepted: u64,
    pub connections_refused: u64,
    pub connections_expired: u64,
    pub connections_cut: u64,
    pub requests: u64,
    pub requests_unfinished: u64,
    pub requests_aborted: u64,
    pub responses_1xx: u64,
    pub responses_2xx: u64,
    pub responses_3xx: u64,
    pub responses_4xx: u64,
    pub responses_5xx: u64,
    pub response_bytes: u64,
    pub upstream_failures: u64,
    pub upstream_timeouts: u64,
    pub tape_written: u64,
    pub tape_dropped: u64,
    pub load_shed: u64,
    pub load_shedding_began: u64,
    pub open_files_peak: u64,
    pub memory_bytes_peak: u64,
    pub tasks_peak: u64,
    pub sessions_peak: u64,
    pub breakers_opened: u64,
    pub processes_started: u64,
    pub tls_passed: u64,
    pub tls_refused: u64,
}

impl Metrics {
    /// Creates metrics whose counters are zero.
    #[must_use]
    pub fn new(sources: Sources, file: Option<PathBuf>) -> Self {
        Self {
            traffic: Traffic::default(),
            upstream_failures: AtomicU64::new(0),
            upstream_timeouts: AtomicU64::new(0),
            sources,
            file,
        }
    }

    /// Counts a request when its head has arrived.
    pub fn request_began(&self) {
        self.traffic.began();
    }

    /// Counts a response when it was sent completely or was given up.
    pub fn request_ended(
        &self,
        status: Option<StatusCode>,
        bytes: u64,
        complete: bool,
        duration: Duration,
    ) {
        self.traffic.ended(status, bytes, complete, duration);
    }

    /// Counts a failure of an upstream. Returns the number of failures so far.
    pub fn upstream_failed(&self, fault: Fault) -> u64 {
        if fault.status() == StatusCode::GATEWAY_TIMEOUT {
            self.upstream_timeouts.fetch_add(1, Ordering::Relaxed);
        }
        self.upstream_failures.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Returns the current numbers of all counters and sources.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let sources = &self.sources;
        let connections = (sources.connections)();
        let traffic = self.traffic.sums();
        let [r1, r2, r3, r4, r5] = traffic.responses;
        let tape = sources.recorder.as_ref().map(|recorder| recorder.counts());
        let (tape_written, tape_dropped) = tape.unwrap_or_default();
        let usage = sources.load.usage();
        let peak = |resource: Resource| usage[resource as usize].peak;
        let refused = tls::Fate::ALL
            .into_iter()
            .filter(|fate| *fate != tls::Fate::Passed);
        Snapshot {
            connections_active: connections.active as u64,
            connections_peak: connections.peak as u64,
            connections_accepted: connections.accepted,
            connections_refused: connections.rejected,
            connections_expired: connections.expired,
            connections_cut: connections.forced,
            requests: traffic.began,
            requests_unfinished: traffic.unfinished,
            requests_aborted: traffic.aborted,
            responses_1xx: r1,
            responses_2xx: r2,
            responses_3xx: r3,
            responses_4xx: r4,
            responses_5xx: r5,
            response_bytes: traffic.response_bytes,
            upstream_failures: count(&self.upstream_failures),
            upstream_timeouts: count(&self.upstream_timeouts),
            tape_written,
            tape_dropped,
            load_shed: sources.load.shed(),
            load_shedding_began: sources.load.opened(),
            open_files_peak: peak(Resource::Files),
            memory_bytes_peak: peak(Resource::Memory),
            tasks_peak: peak(Resource::Tasks),
            sessions_peak: peak(Resource::Sessions),
            breakers_opened: self.breakers_opened(),
            processes_started: self.processes_started(),
            tls_passed: sources.tls.of(tls::Fate::Passed),
            tls_refused: refused.map(|fate| sources.tls.of(fate)).sum(),
        }
    }

    fn breakers_opened(&self) -> u64 {
        let opened = self.sources.routes.targets().map(|target| match target {
            Target::Http(group) => {
                let members = group.members().iter();
                members.map(|member| member.breaker.opened()).sum()
            }
            Target::Stdio(_) | Target::Feed(_) => 0,
        });
        opened.sum()
    }

    fn processes_started(&self) -> u64 {
        let started = self.sources.routes.targets().map(|target| match target {
            Target::Http(_) | Target::Feed(_) => 0,
            Target::Stdio(program) => program.counts().started,
        });
        started.sum()
    }

    /// Saves the numbers as JSON, if a file is configured. The file is replaced as a whole, so
    /// after a crash there is either the old file or the new file.
    ///
    /// # Errors
    ///
    /// When the file cannot be written or renamed.
    pub async fn persist(&self) -> io::Result<()> {
        let Some(path) = self.file.clone() else {
            return Ok(());
        };
        let mut text = serde_json::to_vec_pretty(&self.snapshot())?;
        text.push(b'\n');
        let shown = path.display().to_string();
        tokio::task::spawn_blocking(move || replace(&path, &text)).await??;
        info!(path = shown, "metrics saved");
        Ok(())
    }
}

fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let directory = match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    // Synchronised, since the rename is durable only once the directory is.
    std::fs::File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(file: Option<PathBuf>) -> Metrics {
        let sources = Sources {
            connections: Box::new(ConnectionStats::default),
            recorder: None,
            routes: Arc::new(Routes::new(Vec::new())),
            load: Arc::new(Load::new(
                [lifecycle_proxy_overload::load::Bounds::NONE; Resource::ALL.len()],
                Box::new(Default::default),
            )),
            websockets: websocket::Open::default(),
            tls: tls::Counts::default(),
            handle: ShutdownHandle::new(),
        };
        Metrics::new(sources, file)
    }

    #[test]
    fn a_request_is_counted_from_its_head_to_its_last_byte() {
        let metrics = metrics(None);
        metrics.request_began();
        metrics.request_began();
        let took = Duration::from_millis(5);
        metrics.request_ended(Some(StatusCode::NOT_FOUND), 7, true, took);
        metrics.request_ended(None, 0, false, took);
        let numbers = metrics.snapshot();
        assert_eq!((numbers.requests, numbers.requests_unfinished), (2, 0));
        assert_eq!((numbers.responses_4xx, numbers.requests_aborted), (1, 1));
        assert_eq!(numbers.response_bytes, 7);
    }

    #[test]
    fn the_page_is_openmetrics() {
        let metrics = metrics(None);
        metrics.request_began();
        metrics.request_ended(Some(StatusCode::OK), 7, true, Duration::from_millis(5));
        let text = Page::new(Arc::new(metrics)).text();
        for line in [
            "# TYPE proxy_requests counter",
            "proxy_requests_total 1",
            "proxy_requests_unfinished 0",
            "proxy_responses_total{class=\"2xx\"} 1",
            "proxy_request_duration_seconds_bucket{le=\"0.01\"} 1",
            "proxy_request_duration_seconds_count 1",
            "proxy_resource_used{resource=\"open_files\"} 0",
            "# EOF",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}: {text}");
        }
    }

    #[test]
    fn a_status_without_a_class_is_not_counted() {
        let metrics = metrics(None);
        metrics.request_began();
        metrics.request_ended(StatusCode::from_u16(999).ok(), 0, true, Duration::ZERO);
        assert_eq!(metrics.snapshot().responses_5xx, 0);
    }

    #[tokio::test]
    async fn the_file_is_replaced_and_nothing_else_is_left_in_its_directory() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metrics.json");
        std::fs::write(&path, "old").unwrap();
        let metrics = metrics(Some(path.clone()));
        metrics.request_began();
        metrics.persist().await.unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let saved: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(saved["requests"], 1);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn a_directory_that_is_missing_is_an_error() {
        let metrics = metrics(Some(PathBuf::from("/nonexistent/metrics.json")));
        assert!(metrics.persist().await.is_err());
    }
}

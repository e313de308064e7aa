//! Numbers about the traffic: counted without locks, served as text, saved when
//! the proxy ends.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::StatusCode;
use serde::Serialize;
use tracing::info;

use crate::connections::Counts;
use crate::fault::Fault;
use crate::recorder::TapeRecorder;

/// Counts requests, and knows where the other numbers are.
pub struct Metrics {
    requests: AtomicU64,
    unfinished: AtomicU64,
    aborted: AtomicU64,
    /// By the first digit of the status.
    responses: [AtomicU64; 5],
    response_bytes: AtomicU64,
    upstream_failures: AtomicU64,
    upstream_timeouts: AtomicU64,
    connections: Box<dyn Fn() -> Counts + Send + Sync>,
    recorder: Option<Arc<TapeRecorder>>,
    file: Option<PathBuf>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.snapshot().fmt(f)
    }
}

/// The numbers at one time. A counter that only grows is read once, so no
/// number is ahead of one that it is a part of by more than what happens while
/// they are read.
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
}

impl Metrics {
    /// All at zero.
    #[must_use]
    pub fn new(
        connections: impl Fn() -> Counts + Send + Sync + 'static,
        recorder: Option<Arc<TapeRecorder>>,
        file: Option<PathBuf>,
    ) -> Self {
        Self {
            requests: AtomicU64::new(0),
            unfinished: AtomicU64::new(0),
            aborted: AtomicU64::new(0),
            responses: Default::default(),
            response_bytes: AtomicU64::new(0),
            upstream_failures: AtomicU64::new(0),
            upstream_timeouts: AtomicU64::new(0),
            connections: Box::new(connections),
            recorder,
            file,
        }
    }

    /// A request's head has arrived.
    pub fn request_began(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.unfinished.fetch_add(1, Ordering::Relaxed);
    }

    /// Its response was handed over, or given up.
    pub fn request_ended(&self, status: Option<StatusCode>, bytes: u64, complete: bool) {
        self.unfinished.fetch_sub(1, Ordering::Relaxed);
        self.response_bytes.fetch_add(bytes, Ordering::Relaxed);
        if !complete {
            self.aborted.fetch_add(1, Ordering::Relaxed);
        }
        let class = status.map(|status| usize::from(status.as_u16() / 100));
        if let Some(count) = class.and_then(|class| self.responses.get(class - 1)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The upstream failed. Returns how often it did.
    pub fn upstream_failed(&self, fault: Fault) -> u64 {
        if fault.status() == StatusCode::GATEWAY_TIMEOUT {
            self.upstream_timeouts.fetch_add(1, Ordering::Relaxed);
        }
        self.upstream_failures.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The numbers now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let connections = (self.connections)();
        let [r1, r2, r3, r4, r5] = &self.responses;
        let tape = self.recorder.as_ref().map(|recorder| recorder.counts());
        let (tape_written, tape_dropped) = tape.unwrap_or_default();
        Snapshot {
            connections_active: connections.active,
            connections_peak: connections.peak,
            connections_accepted: connections.accepted,
            connections_refused: connections.refused,
            connections_expired: connections.expired,
            connections_cut: connections.cut,
            requests: count(&self.requests),
            requests_unfinished: count(&self.unfinished),
            requests_aborted: count(&self.aborted),
            responses_1xx: count(r1),
            responses_2xx: count(r2),
            responses_3xx: count(r3),
            responses_4xx: count(r4),
            responses_5xx: count(r5),
            response_bytes: count(&self.response_bytes),
            upstream_failures: count(&self.upstream_failures),
            upstream_timeouts: count(&self.upstream_timeouts),
            tape_written,
            tape_dropped,
        }
    }

    /// Saves the numbers as JSON, if there is a file for them. The file is
    /// replaced as a whole: a crash leaves the old one or the new one.
    ///
    /// # Errors
    ///
    /// When the file cannot be written or put in place.
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
    // The new name is safe only once the directory is.
    std::fs::File::open(directory)?.sync_all()
}

impl Snapshot {
    /// In the text format that Prometheus reads.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(4096);
        for (name, kind, help, samples) in self.families() {
            let _ = writeln!(
                text,
                "# HELP proxy_{name} {help}\n# TYPE proxy_{name} {kind}"
            );
            for (labels, value) in samples {
                let _ = writeln!(text, "proxy_{name}{labels} {value}");
            }
        }
        text
    }

    #[rustfmt::skip]
    fn families(&self) -> [Family; 14] {
        let one = |value| vec![("", value)];
        let classes = vec![
            ("{class=\"1xx\"}", self.responses_1xx),
            ("{class=\"2xx\"}", self.responses_2xx),
            ("{class=\"3xx\"}", self.responses_3xx),
            ("{class=\"4xx\"}", self.responses_4xx),
            ("{class=\"5xx\"}", self.responses_5xx),
        ];
        [
            ("connections_active", "gauge", "Client connections open now.", one(self.connections_active)),
            ("connections_peak", "gauge", "Client connections open at the same time, at most.", one(self.connections_peak)),
            ("connections_accepted_total", "counter", "Client connections served.", one(self.connections_accepted)),
            ("connections_refused_total", "counter", "Client connections above the limit.", one(self.connections_refused)),
            ("connections_expired_total", "counter", "Client connections ended by a time limit.", one(self.connections_expired)),
            ("connections_cut_total", "counter", "Client connections cut by a shutdown.", one(self.connections_cut)),
            ("requests_total", "counter", "Requests.", one(self.requests)),
            ("requests_unfinished", "gauge", "Requests being answered now.", one(self.requests_unfinished)),
            ("requests_aborted_total", "counter", "Requests whose response did not reach its end.", one(self.requests_aborted)),
            ("responses_total", "counter", "Responses, by the class of their status.", classes),
            ("response_bytes_total", "counter", "Bytes of response bodies.", one(self.response_bytes)),
            ("upstream_failures_total", "counter", "Requests that the upstream failed to answer.", one(self.upstream_failures)),
            ("upstream_timeouts_total", "counter", "Those of them where it took too long.", one(self.upstream_timeouts)),
            ("tape_entries_total", "counter", "Exchanges on the traffic tape, or lost to it.", vec![
                ("{fate=\"written\"}", self.tape_written),
                ("{fate=\"dropped\"}", self.tape_dropped),
            ]),
        ]
    }
}

/// Name, kind, help, and the values with their labels.
type Family = (
    &'static str,
    &'static str,
    &'static str,
    Vec<(&'static str, u64)>,
);

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(file: Option<PathBuf>) -> Metrics {
        Metrics::new(Counts::default, None, file)
    }

    #[test]
    fn a_request_is_counted_from_its_head_to_its_last_byte() {
        let metrics = metrics(None);
        metrics.request_began();
        metrics.request_began();
        metrics.request_ended(Some(StatusCode::NOT_FOUND), 7, true);
        metrics.request_ended(None, 0, false);
        let numbers = metrics.snapshot();
        assert_eq!((numbers.requests, numbers.requests_unfinished), (2, 0));
        assert_eq!((numbers.responses_4xx, numbers.requests_aborted), (1, 1));
        assert_eq!(numbers.response_bytes, 7);
        let text = numbers.text();
        assert!(
            text.contains("\nproxy_responses_total{class=\"4xx\"} 1\n"),
            "{text}"
        );
        assert!(
            text.contains("\n# TYPE proxy_requests_total counter\n"),
            "{text}"
        );
    }

    #[test]
    fn a_status_of_no_class_is_not_counted_under_one() {
        let metrics = metrics(None);
        metrics.request_began();
        metrics.request_ended(StatusCode::from_u16(999).ok(), 0, true);
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

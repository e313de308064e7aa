//! The traffic tape: one JSON object a line for each exchange. Recording never
//! waits for the disk; what the disk cannot take in time is dropped, and counted.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex as SyncMutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt;
use tokio::sync::{Mutex, Notify, OnceCell};
use tracing::{info, warn};

use crate::logging::Throttle;
use crate::timestamp;

/// One exchange, as the tape tells it.
#[derive(Debug, Serialize)]
pub struct Entry<'a> {
    /// When the request's head was complete.
    #[serde(serialize_with = "timestamp::rfc3339")]
    pub time: SystemTime,
    /// Who asked.
    pub client: SocketAddr,
    /// How.
    pub method: &'a str,
    /// For what, with the query.
    pub path: &'a str,
    /// The answer; none if the client left before it.
    pub status: Option<u16>,
    /// Until the last byte was handed to the client's connection.
    #[serde(rename = "duration_ms", serialize_with = "timestamp::millis")]
    pub duration: Duration,
    /// Of the response's body.
    pub bytes: u64,
    /// Whether that was all of it.
    pub complete: bool,
}

/// Why the tape could not be written.
#[derive(Debug)]
pub struct TapeError {
    path: PathBuf,
    error: io::Error,
}

impl fmt::Display for TapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "traffic tape {}: {}", self.path.display(), self.error)
    }
}

impl std::error::Error for TapeError {}

/// Records exchanges. Shared by `Arc`; dropping one changes nothing.
#[derive(Debug)]
pub struct TapeRecorder {
    path: PathBuf,
    capacity: NonZeroUsize,
    queue: SyncMutex<VecDeque<Vec<u8>>>,
    queued: Notify,
    tape: OnceCell<Mutex<Tape>>,
    written: AtomicU64,
    dropped: AtomicU64,
    complaints: Throttle,
}

/// The open file and the line that is being written to it. The line lies here,
/// not in a future, so that nothing is lost or torn when a future is dropped.
#[derive(Debug)]
struct Tape {
    file: File,
    line: io::Cursor<Vec<u8>>,
}

impl TapeRecorder {
    /// A recorder that appends to the file at `path`, which is opened later, by
    /// [`run`](Self::run) or [`flush`](Self::flush).
    #[must_use]
    pub fn new(path: PathBuf, capacity: NonZeroUsize) -> Self {
        Self {
            path,
            capacity,
            queue: SyncMutex::default(),
            queued: Notify::new(),
            tape: OnceCell::new(),
            written: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            complaints: Throttle::default(),
        }
    }

    /// Takes an entry, or drops and counts it if too many wait already.
    pub fn record(&self, entry: &Entry<'_>) {
        let Ok(mut line) = serde_json::to_vec(entry) else {
            self.lose(1);
            return;
        };
        line.push(b'\n');
        let mut queue = self.queue();
        if queue.len() >= self.capacity.get() {
            drop(queue);
            self.lose(1);
            return;
        }
        queue.push_back(line);
        drop(queue);
        self.queued.notify_one();
    }

    /// Entries written, and entries dropped.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (count(&self.written), count(&self.dropped))
    }

    /// Opens the tape and writes what is recorded, until it is dropped or aborted.
    pub async fn run(&self) {
        match self.tape().await {
            Ok(_) => info!(path = %self.path.display(), "recording traffic"),
            Err(error) => warn!(%error, "traffic cannot be recorded yet"),
        }
        loop {
            self.queued.notified().await;
            if let Err(error) = self.write_queued().await
                && self.complaints.allows()
            {
                warn!(%error, dropped = self.counts().1, "traffic is not recorded");
            }
        }
    }

    /// Writes all that was recorded until now, and waits until it is on the disk.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened, written or synchronised.
    ///
    /// # Cancel safety
    ///
    /// Safe: the next call goes on where this one was dropped.
    pub async fn flush(&self) -> Result<(), TapeError> {
        self.write_queued().await?;
        if let Some(tape) = self.tape.get() {
            let mut tape = tape.lock().await;
            tape.finish().await.map_err(|error| self.error(error))?;
        }
        let (written, dropped) = self.counts();
        info!(written, dropped, "traffic tape flushed");
        Ok(())
    }

    async fn write_queued(&self) -> Result<(), TapeError> {
        if self.queue().is_empty() && !self.tape.initialized() {
            return Ok(());
        }
        let mut tape = self.tape().await?.lock().await;
        loop {
            match tape.write_line().await {
                Ok(lines) => _ = self.written.fetch_add(lines, Ordering::Relaxed),
                Err(error) => {
                    self.lose(1);
                    return Err(self.error(error));
                }
            }
            let Some(line) = self.queue().pop_front() else {
                return tape.file.flush().await.map_err(|error| self.error(error));
            };
            tape.line = io::Cursor::new(line);
        }
    }

    async fn tape(&self) -> Result<&Mutex<Tape>, TapeError> {
        let open = || async {
            let file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(&self.path)
                .await
                .map_err(|error| self.error(error))?;
            Ok(Mutex::new(Tape {
                file,
                line: io::Cursor::default(),
            }))
        };
        self.tape.get_or_try_init(open).await
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<Vec<u8>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lose(&self, entries: u64) {
        self.dropped.fetch_add(entries, Ordering::Relaxed);
    }

    fn error(&self, error: io::Error) -> TapeError {
        let path = self.path.clone();
        TapeError { path, error }
    }
}

impl Tape {
    /// Writes what is left of the line, if there is one, and returns how many
    /// lines that was. After an error the rest of it is given up.
    async fn write_line(&mut self) -> io::Result<u64> {
        let result = self.file.write_all_buf(&mut self.line).await;
        let line = std::mem::take(&mut self.line);
        result.map(|()| u64::from(!line.get_ref().is_empty()))
    }

    async fn finish(&mut self) -> io::Result<()> {
        self.file.flush().await?;
        self.file.sync_all().await
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn entry(path: &str) -> Entry<'_> {
        Entry {
            time: UNIX_EPOCH + Duration::from_millis(951_782_400_007),
            client: SocketAddr::from(([192, 0, 2, 1], 5000)),
            method: "GET",
            path,
            status: Some(200),
            duration: Duration::from_micros(1500),
            bytes: 12,
            complete: true,
        }
    }

    fn recorder(directory: &tempfile::TempDir, capacity: usize) -> TapeRecorder {
        let path = directory.path().join("tape.ndjson");
        TapeRecorder::new(path, NonZeroUsize::new(capacity).unwrap())
    }

    fn lines(recorder: &TapeRecorder) -> Vec<String> {
        let text = std::fs::read_to_string(&recorder.path).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[tokio::test]
    async fn what_was_recorded_is_on_the_tape_after_a_flush() {
        let directory = tempfile::tempdir().unwrap();
        let recorder = recorder(&directory, 10);
        recorder.record(&entry("/a?b=c"));
        recorder.record(&entry("/d"));
        recorder.flush().await.unwrap();
        assert_eq!(
            lines(&recorder)[0],
            r#"{"time":"2000-02-29T00:00:00.007Z","client":"192.0.2.1:5000","method":"GET","path":"/a?b=c","status":200,"duration_ms":1.5,"bytes":12,"complete":true}"#
        );
        assert_eq!(lines(&recorder).len(), 2);
        assert_eq!(recorder.counts(), (2, 0));
    }

    #[tokio::test]
    async fn what_the_queue_cannot_hold_is_dropped_and_counted() {
        let directory = tempfile::tempdir().unwrap();
        let recorder = recorder(&directory, 2);
        for _ in 0..5 {
            recorder.record(&entry("/"));
        }
        recorder.flush().await.unwrap();
        assert_eq!(recorder.counts(), (2, 3));
        assert_eq!(lines(&recorder).len(), 2);
    }

    #[tokio::test]
    async fn an_aborted_writer_loses_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let recorder = std::sync::Arc::new(recorder(&directory, 10_000));
        for round in 0..20 {
            for _ in 0..100 {
                recorder.record(&entry("/"));
            }
            let writer = tokio::spawn({
                let recorder = recorder.clone();
                async move { recorder.run().await }
            });
            for _ in 0..round {
                tokio::task::yield_now().await;
            }
            writer.abort();
            let _ = writer.await;
        }
        recorder.flush().await.unwrap();
        let lines = lines(&recorder);
        assert_eq!(lines.len(), 2000);
        for line in lines {
            serde_json::from_str::<serde_json::Value>(&line).unwrap();
        }
    }

    #[tokio::test]
    async fn nothing_recorded_needs_no_file_and_a_file_that_cannot_be_opened_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("missing").join("tape");
        let recorder = TapeRecorder::new(path, NonZeroUsize::MIN);
        recorder.flush().await.unwrap();
        recorder.record(&entry("/"));
        let error = recorder.flush().await.unwrap_err().to_string();
        assert!(error.contains("missing"), "{error}");
    }
}

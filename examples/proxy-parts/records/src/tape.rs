//! The traffic tape: a log with one line of JSON for each exchange. Recording never waits for the
//! disk. Entries for which the queue has no room, or that cannot be written, are dropped and
//! counted.

mod rotation;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex as SyncMutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use lifecycle_proxy_common::{Throttle, bounds, timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, Notify};
use tokio::task::JoinHandle;
use tracing::{info, warn};

use rotation::{RotatingFile, Written};

/// The settings of a traffic tape, as a configuration file has them.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The file to which the lines are appended. `None` means that nothing is recorded.
    pub path: Option<PathBuf>,
    /// The number of entries that may wait for the disk. Further entries are dropped and counted.
    #[serde(deserialize_with = "bounds::positive::<_, _, 1000000>")]
    pub queue: NonZeroUsize,
    /// The size, in bytes, at which the file is rotated: it is renamed to a name ending in `.1`.
    /// `None` means that the file is never rotated.
    #[serde(deserialize_with = "bounds::optional::<_, _, 1125899906842624>")]
    pub max_bytes: Option<NonZeroU64>,
    /// The number of rotated files to keep.
    #[serde(deserialize_with = "bounds::natural::<_, _, 1000>")]
    pub keep: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            path: None,
            queue: const { NonZeroUsize::new(4096).unwrap() },
            max_bytes: None,
            keep: 5,
        }
    }
}

/// An exchange, as the traffic tape records it.
#[derive(Debug, Serialize)]
pub struct Entry<'a> {
    /// The time at which the head of the request was complete.
    #[serde(serialize_with = "timestamp::rfc3339")]
    pub time: SystemTime,
    /// The client's address.
    pub client: SocketAddr,
    /// The request's method.
    pub method: &'a str,
    /// The request's path, with its query.
    pub path: &'a str,
    /// The response's status. `None` if the client left before the response.
    pub status: Option<u16>,
    /// The time from the request's head to the moment when the last byte was handed to the client's
    /// connection.
    #[serde(rename = "duration_ms", serialize_with = "timestamp::millis")]
    pub duration: Duration,
    /// The size of the response's body, in bytes.
    pub bytes: u64,
    /// Whether the body of the response was sent completely.
    pub complete: bool,
}

/// The error that the traffic tape cannot be written.
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

/// A recorder of exchanges, which is shared by `Arc`.
#[derive(Debug)]
pub struct TapeRecorder {
    path: PathBuf,
    capacity: NonZeroUsize,
    queue: SyncMutex<VecDeque<Vec<u8>>>,
    queued: Notify,
    tape: Mutex<Tape>,
    written: AtomicU64,
    dropped: AtomicU64,
    /// The number of entries that were dropped because they could not be written to the disk.
    unwritten: AtomicU64,
    complaints: Throttle,
}

/// The file, or the blocking job that uses the file. The job is kept here and not in a future, so
/// that nothing is lost when a future is dropped.
#[derive(Debug)]
enum Tape {
    Idle(RotatingFile),
    Busy(JoinHandle<(RotatingFile, Written)>),
    /// The job panicked, so the file is lost.
    Lost,
}

impl TapeRecorder {
    /// Creates a recorder for the configured file. Returns `None` if no file is configured. The
    /// file is opened by [`open`](Self::open) or before the first write.
    #[must_use]
    pub fn new(settings: &Settings) -> Option<Self> {
        let path = settings.path.clone()?;
        let file = RotatingFile::new(path.clone(), settings.max_bytes, settings.keep);
        Some(Self {
            path,
            capacity: settings.queue,
            queue: SyncMutex::default(),
            queued: Notify::new(),
            tape: Mutex::new(Tape::Idle(file)),
            written: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            unwritten: AtomicU64::new(0),
            complaints: Throttle::default(),
        })
    }

    /// Queues an entry for the disk. Drops and counts the entry if the queue is full.
    pub fn record(&self, entry: &Entry<'_>) {
        let Ok(mut line) = serde_json::to_vec(entry) else {
            self.count_dropped(1);
            return;
        };
        line.push(b'\n');
        let mut queue = self.queue();
        if queue.len() >= self.capacity.get() {
            drop(queue);
            self.count_dropped(1);
            return;
        }
        queue.push_back(line);
        drop(queue);
        self.queued.notify_one();
    }

    /// Returns the number of written entries and the number of dropped entries.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (count(&self.written), count(&self.dropped))
    }

    /// Opens the file, so that an error is noticed when the server starts.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened.
    pub async fn open(&self) -> Result<(), TapeError> {
        self.work(RotatingFile::open).await?;
        info!(path = %self.path.display(), "recording traffic");
        Ok(())
    }

    /// Writes queued entries until the future is dropped.
    pub async fn run(&self) {
        loop {
            self.queued.notified().await;
            if let Err(error) = self.write_queued().await
                && self.complaints.allows()
            {
                warn!(%error, dropped = self.counts().1, "writing the traffic tape failed");
            }
        }
    }

    /// Writes all queued entries, and waits until they are on the disk.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened, written or synchronised, or when entries were lost earlier.
    ///
    /// # Cancel safety
    ///
    /// Safe: if the future is dropped, the next call continues the work.
    pub async fn flush(&self) -> Result<(), TapeError> {
        self.write_queued().await?;
        self.work(RotatingFile::synchronise).await?;
        let (written, dropped) = self.counts();
        info!(written, dropped, "traffic tape flushed");
        match self.unwritten.load(Ordering::Relaxed) {
            0 => Ok(()),
            unwritten => {
                let text = format!("{unwritten} entries could not be written");
                Err(self.error(io::Error::other(text)))
            }
        }
    }

    async fn write_queued(&self) -> Result<(), TapeError> {
        loop {
            // The job owns the lines once they are taken from the queue, so that they are written
            // even if this future is dropped.
            let lines = || std::mem::take(&mut *self.queue());
            if self.queue().is_empty() {
                return self.work(|_| Written::default()).await;
            }
            self.work_with(lines, RotatingFile::append).await?;
        }
    }

    async fn work(
        &self,
        job: impl FnOnce(&mut RotatingFile) -> Written + Send + 'static,
    ) -> Result<(), TapeError> {
        self.work_with(|| (), |file, ()| job(file)).await
    }

    /// Waits for the job in progress, then runs `job` on the blocking pool. Calls `input` only when
    /// `job` is certain to run.
    async fn work_with<T: Send + 'static>(
        &self,
        input: impl FnOnce() -> T,
        job: impl FnOnce(&mut RotatingFile, T) -> Written + Send + 'static,
    ) -> Result<(), TapeError> {
        let mut tape = self.tape.lock().await;
        let before = self.finish_job(&mut tape).await;
        let Tape::Idle(mut file) = std::mem::replace(&mut *tape, Tape::Lost) else {
            return Err(self.error(io::Error::other("its writer panicked")));
        };
        let input = input();
        *tape = Tape::Busy(tokio::task::spawn_blocking(move || {
            let written = job(&mut file, input);
            (file, written)
        }));
        self.finish_job(&mut tape).await.and(before)
    }

    async fn finish_job(&self, tape: &mut Tape) -> Result<(), TapeError> {
        let Tape::Busy(work) = tape else {
            return Ok(());
        };
        let Ok((file, written)) = work.await else {
            *tape = Tape::Lost;
            return Ok(());
        };
        *tape = Tape::Idle(file);
        self.written.fetch_add(written.lines, Ordering::Relaxed);
        self.count_dropped(written.lost);
        self.unwritten.fetch_add(written.lost, Ordering::Relaxed);
        self.requeue(written.back);
        written.error.map_or(Ok(()), |error| Err(self.error(error)))
    }

    /// Puts unwritten lines back to the front of the queue. Drops the newest lines if the queue
    /// overflows.
    fn requeue(&self, mut lines: VecDeque<Vec<u8>>) {
        let mut queue = self.queue();
        lines.append(&mut queue);
        let most = self.capacity.get().min(lines.len());
        self.count_dropped((lines.len() - most) as u64);
        lines.truncate(most);
        *queue = lines;
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<Vec<u8>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count_dropped(&self, entries: u64) {
        self.dropped.fetch_add(entries, Ordering::Relaxed);
    }

    fn error(&self, error: io::Error) -> TapeError {
        let path = self.path.clone();
        TapeError { path, error }
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

    fn at(path: PathBuf, capacity: usize) -> TapeRecorder {
        let settings = Settings {
            path: Some(path),
            queue: NonZeroUsize::new(capacity).unwrap(),
            ..Settings::default()
        };
        TapeRecorder::new(&settings).unwrap()
    }

    fn recorder(directory: &tempfile::TempDir, capacity: usize) -> TapeRecorder {
        at(directory.path().join("tape.ndjson"), capacity)
    }

    fn lines(recorder: &TapeRecorder) -> Vec<String> {
        let text = std::fs::read_to_string(&recorder.path).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[tokio::test]
    async fn recorded_entries_are_on_the_tape_after_a_flush() {
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
    async fn entries_beyond_the_queue_are_dropped_and_counted() {
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
        let recorder = at(path, 1);
        recorder.flush().await.unwrap();
        recorder.record(&entry("/"));
        let error = recorder.flush().await.unwrap_err().to_string();
        assert!(error.contains("missing"), "{error}");
    }

    #[tokio::test]
    async fn a_full_disk_loses_entries_and_reports_it() {
        let recorder = at(PathBuf::from("/dev/full"), 10);
        recorder.record(&entry("/"));
        recorder.record(&entry("/"));
        let error = recorder.flush().await.unwrap_err().to_string();
        assert!(error.contains("/dev/full: No space left"), "{error}");
        assert_eq!(recorder.counts(), (0, 2));
        assert!(recorder.flush().await.is_err(), "it stays incomplete");
    }
}

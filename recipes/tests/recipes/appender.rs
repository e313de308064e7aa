//! `tracing-appender`: log lines that a thread of their own writes.
//!
//! - **Type**: `WorkerGuard`
//! - **Write**: `Runner::finally(move |_| drop(guard))`
//! - **Cleanup**: drop the `WorkerGuard`, in `Runner::finally`: the thread writes what is queued and ends.
//! - **Lost without it**: the lines that are still queued when the process ends.
//! - **Repeated**: no: the guard is gone.
//! - **Waits for**: the thread, 1.1 s at most. If the disk takes longer, lines are lost, and no error says so.
//! - **Order**: last of all. A field would be dropped before the server's own drop logs.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use lifecycle_runtime::{GracefulShutdown, Runner, ShutdownState};
use tracing_appender::non_blocking::{NonBlocking, WorkerGuard};

use crate::steps::assert_clean;

/// A disk that blocks each write until the test lets it go on.
struct Disk {
    free: Receiver<()>,
    written: Arc<Mutex<String>>,
}

impl Write for Disk {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // Receiving fails once the test has dropped the sender. From then on no write blocks.
        let _ = self.free.recv();
        let mut written = self.written.lock().expect("no panic");
        written.push_str(&String::from_utf8_lossy(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn disk() -> (NonBlocking, WorkerGuard, Sender<()>, Arc<Mutex<String>>) {
    let (let_go, free) = channel();
    let written = Arc::<Mutex<String>>::default();
    let (log, guard) = tracing_appender::non_blocking(Disk {
        free,
        written: Arc::clone(&written),
    });
    (log, guard, let_go, written)
}

struct Session(NonBlocking);

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.0.write_all(b"the session is dropped\n");
    }
}

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(skip)]
    _session: Session,
    /// A field is the wrong place for the guard, as one test shows: the server's own drop logs after it.
    #[shutdown(take, blocking, with = drop)]
    guard: Option<WorkerGuard>,
    #[shutdown(state)]
    state: ShutdownState,
}

fn server(log: NonBlocking, guard: Option<WorkerGuard>) -> Server {
    Server {
        _session: Session(log),
        guard,
        state: ShutdownState::new(),
    }
}

#[tokio::test]
async fn a_guard_dropped_last_writes_the_lines_of_the_last_drops() {
    let (log, guard, let_go, written) = disk();
    let report = Runner::new(server(log, None))
        .finally(move |_| {
            drop(let_go);
            drop(guard);
        })
        .run(async |_: &mut Server, _| ())
        .await;
    assert_clean(&report);
    assert_eq!(*written.lock().unwrap(), "the session is dropped\n");
}

#[tokio::test]
async fn without_the_cleanup_the_lines_are_not_awaited() {
    let (log, guard, let_go, written) = disk();
    let report = Runner::new(server(log, None))
        .run(async |_: &mut Server, _| ())
        .await;
    assert_clean(&report);
    assert_eq!(*written.lock().unwrap(), "", "here the process would end");
    drop((let_go, guard));
}

#[tokio::test]
async fn a_guard_in_a_field_is_dropped_before_the_last_lines() {
    let (log, guard, let_go, written) = disk();
    drop(let_go);
    Runner::new(server(log, Some(guard)))
        .run(async |_: &mut Server, _| ())
        .await;
    assert_eq!(*written.lock().unwrap(), "");
}

#[test]
fn a_disk_that_takes_longer_than_the_guard_waits_loses_lines() {
    let (mut log, guard, let_go, written) = disk();
    log.write_all(b"a line\n").unwrap();
    drop(guard);
    assert_eq!(*written.lock().unwrap(), "", "here the process would end");
    drop(let_go);
}

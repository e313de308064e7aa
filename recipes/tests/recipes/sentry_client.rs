//! `sentry`: a client whose events are sent by a thread.
//!
//! - **Type**: `ClientInitGuard`
//! - **Write**: `Runner::finally(move |_| drop(guard))`
//! - **Cleanup**: drop the `ClientInitGuard`, in `Runner::finally`: its thread sends what is queued.
//! - **Lost without it**: the events that are still queued when the process ends.
//! - **Repeated**: no: the guard is gone.
//! - **Waits for**: the queue, up to `shutdown_timeout` (2 s by default); then the request in flight, without a limit. Events queued behind that request are lost. The hook's own limit is `Runner::finally_timeout`.
//! - **Order**: last of all. A field would be dropped before the events of the server's own drop.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use lifecycle_runtime::{GracefulShutdown, Report, Runner, ShutdownState};
use sentry::{ClientInitGuard, ClientOptions, Level};

use crate::steps::{assert_clean, assert_timed_out};

/// A collector of events that answers a request only when the test lets it.
struct Collector {
    dsn: String,
    /// A receiver that gets a message for each request that has arrived.
    asked: Receiver<()>,
    let_go: Sender<()>,
    /// The text of the requests that the collector has answered.
    received: Arc<Mutex<String>>,
}

fn collector() -> Collector {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let dsn = format!("http://key@{}/1", listener.local_addr().unwrap());
    let (ask, asked) = channel();
    let (let_go, free) = channel();
    let received = Arc::<Mutex<String>>::default();
    let answered = Arc::clone(&received);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            serve(&stream, &ask, &free, &answered);
        }
    });
    Collector {
        dsn,
        asked,
        let_go,
        received,
    }
}

/// Answers the requests of one connection, until the client closes it.
fn serve(mut stream: &TcpStream, ask: &Sender<()>, free: &Receiver<()>, answered: &Mutex<String>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            match reader.read_line(&mut line) {
                Ok(read) if read > 0 => {}
                _ => return,
            }
            let line = line.trim().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        // Sending fails if the test has dropped the receiver, as most tests do.
        let _ = ask.send(());
        // Receiving fails once the test has dropped the sender. From then on every request is answered at once.
        let _ = free.recv();
        answered
            .lock()
            .unwrap()
            .push_str(&String::from_utf8_lossy(&body));
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        if stream.write_all(answer).is_err() {
            return;
        }
    }
}

/// Creates a Sentry client and binds it to this thread, so that events of this thread go to it.
fn client(dsn: &str, shutdown_timeout: Duration) -> ClientInitGuard {
    let options = ClientOptions::new()
        .dsn(dsn)
        .shutdown_timeout(shutdown_timeout);
    sentry::init(options)
}

struct Session;

impl Drop for Session {
    fn drop(&mut self) {
        sentry::capture_message("the session is dropped", Level::Info);
    }
}

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(skip)]
    _session: Session,
    /// A field is the wrong place for the guard, as one test shows: events of the server's own drop come after it.
    #[shutdown(take, blocking, with = drop)]
    guard: Option<ClientInitGuard>,
    #[shutdown(state)]
    state: ShutdownState,
}

fn server(guard: Option<ClientInitGuard>) -> Server {
    Server {
        _session: Session,
        guard,
        state: ShutdownState::new(),
    }
}

const MINUTE: Duration = Duration::from_secs(60);

async fn run(runner: Runner<Server>) -> Report {
    runner.run(async |_: &mut Server, _| ()).await
}

#[tokio::test]
async fn a_guard_dropped_last_sends_the_events_of_the_last_drops() {
    let Collector {
        dsn,
        let_go,
        received,
        ..
    } = collector();
    let guard = client(&dsn, MINUTE);
    let runner = Runner::new(server(None))
        .finally_timeout(MINUTE)
        .finally(move |_| {
            drop(let_go);
            drop(guard);
        });
    assert_clean(&run(runner).await);
    assert!(received.lock().unwrap().contains("the session is dropped"));
}

#[tokio::test]
async fn without_the_cleanup_the_events_are_not_awaited() {
    let collector = collector();
    let guard = client(&collector.dsn, MINUTE);
    assert_clean(&run(Runner::new(server(None))).await);
    let received = collector.received.lock().unwrap().clone();
    assert_eq!(received, "", "here the process would end");
    drop(collector.let_go);
    drop(guard);
}

#[tokio::test]
async fn a_guard_in_a_field_is_dropped_before_the_last_events() {
    let collector = collector();
    drop(collector.let_go);
    let guard = client(&collector.dsn, MINUTE);
    sentry::capture_message("the server starts", Level::Info);
    run(Runner::new(server(Some(guard)))).await;
    let received = collector.received.lock().unwrap().clone();
    assert!(received.contains("the server starts"));
    assert!(!received.contains("the session is dropped"), "{received}");
}

#[tokio::test]
async fn a_request_in_flight_outlasts_its_timeout_and_the_hook_is_left_behind() {
    let Collector {
        dsn,
        asked,
        let_go,
        received,
    } = collector();
    let guard = client(&dsn, Duration::ZERO);
    let runner = Runner::new(server(None))
        .finally_timeout(Duration::from_millis(300))
        .finally(move |_| {
            asked.recv().unwrap();
            drop(guard);
        });
    assert_timed_out(&run(runner).await, "finally");
    assert_eq!(*received.lock().unwrap(), "");
    drop(let_go);
}

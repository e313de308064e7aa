//! A test for leaks. It makes 10,000 connections of every kind, some of which are aborted. Then the
//! numbers of sockets, processes and tasks and the used memory must be as before. After the
//! shutdown nothing may be left. The test is alone in its binary, since it measures its own
//! process.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use lifecycle_proxy::app::ProxyServer;
use lifecycle_proxy::config::Config;
use lifecycle_runtime::testing::LeakCheck;
use rustix::net::sockopt::set_socket_linger;
use support::{Client, Upstream, eventually};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

/// An allocator that counts the allocations in use.
struct Counting;

static ALLOCATIONS: AtomicI64 = AtomicI64::new(0);

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same for the system's
        // allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATIONS.fetch_sub(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`, which is the same for the system's
        // allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const KINDS: usize = 10;
/// The number of rounds. Together they make more than 10,000 connections, since a connection that
/// is reset before it is accepted does not count.
const ROUNDS: usize = 1100;
const THREADS: usize = 10;

/// Starts an upstream that sends an endless event stream, answers plainly, or echoes WebSocket
/// frames, as the request asks.
fn upstream() -> Upstream {
    Upstream::start(|_, client| {
        while let Some(head) = client.next_head() {
            if head.contains("/feed") {
                return tell(client);
            }
            if head.contains("websocket") {
                client.send(
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                     Upgrade: websocket\r\n\r\n",
                );
                while let Some((_, payload)) = client.frame() {
                    let length = u8::try_from(payload.len()).unwrap();
                    // Ignores an error, since the client may have left.
                    let frame = [&[0x82, length][..], &payload].concat();
                    if std::io::Write::write_all(&mut client.stream, &frame).is_err() {
                        return;
                    }
                }
                return;
            }
            let body = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            if std::io::Write::write_all(&mut client.stream, body.as_bytes()).is_err() {
                return;
            }
        }
    })
}

/// Sends events until the client has left.
fn tell(client: &mut Client) {
    let mut text = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n".to_owned();
    for id in 0.. {
        text += &format!("id: {id}\ndata: x\n\n");
        if std::io::Write::write_all(&mut client.stream, text.as_bytes()).is_err() {
            return;
        }
        text.clear();
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn reset(client: Client) {
    set_socket_linger(&client.stream, Some(Duration::ZERO)).unwrap();
}

fn websocket(client: &mut Client) {
    client.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(client.response_head().status, 101);
    client.send_frame(0x82, b"x");
    assert_eq!(client.frame().unwrap(), (0x82, b"x".to_vec()));
}

/// Makes one connection of the kind `kind`, and ends it.
fn connection(kind: usize, http: SocketAddr, tls: SocketAddr) {
    let mut client = Client::connect(if kind == 7 { tls } else { http });
    match kind {
        0 => assert_eq!(client.get("/").0.status, 200),
        1 => {
            for _ in 0..3 {
                assert_eq!(client.get("/").0.status, 200);
            }
        }
        2 => client.send("GET / HTTP/1.1\r\nHost:"),
        3 => {
            client.ask("/");
            reset(client);
        }
        4 => websocket(&mut client),
        5 => {
            websocket(&mut client);
            reset(client);
        }
        6 => {
            call(&mut client, "m", "");
            assert_eq!(client.response().0.status, 200);
        }
        8 => {
            listen(&mut client, "/feed", "");
            reset(client);
        }
        9 => {
            // Because of the cookie, the proxy remembers this client for a short time.
            let (response, _) = client.get("/app");
            assert!(response.header("set-cookie").is_some());
            reset(client);
        }
        _ => {
            client.send("this is no TLS");
            reset(client);
        }
    }
}

fn call(client: &mut Client, method: &str, fields: &str) {
    let body = format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"{method}\"}}");
    let length = body.len();
    client.send(format!(
        "POST /mcp HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: {length}\r\n\r\n{body}"
    ));
}

/// Listens to a stream of events until the first event has come.
fn listen(client: &mut Client, path: &str, fields: &str) {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    let response = client.response_head();
    assert_eq!(response.status, 200);
    client.chunk().unwrap();
}

/// Begins a session. Returns the header field with the session's name.
fn session(http: SocketAddr) -> String {
    let mut client = Client::connect(http);
    call(&mut client, "initialize", "");
    let (response, _) = client.response();
    let name = response.header("mcp-session-id");
    format!("Mcp-Session-Id: {}\r\n", name.unwrap())
}

/// Makes three sessions: a session that expires, a session whose client leaves during a call, and a
/// session whose client leaves while it listens.
fn sessions(http: SocketAddr) {
    session(http);
    let left = session(http);
    let mut client = Client::connect(http);
    call(&mut client, "never", &left);
    let listened = session(http);
    let mut listener = Client::connect(http);
    listen(&mut listener, "/mcp", &listened);
    reset(listener);
    reset(client);
}

/// Makes connections of all kinds. Only one round in `every` includes sessions, since each session
/// starts a process.
fn rounds(count: usize, every: usize, http: SocketAddr, tls: SocketAddr) {
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                for round in (thread..count).step_by(THREADS) {
                    if round % every == 0 {
                        sessions(http);
                    }
                    for kind in 0..KINDS {
                        connection(kind, http, tls);
                    }
                }
            });
        }
    });
}

const CONFIG: &str = r#"
listen_addrs: ["127.0.0.1:0"]
tls: {listen_addrs: ["127.0.0.1:0"], allow: [{name: a.example}]}
routes:
- path: /mcp
  stdio:
    processes: 2
    sessions: {most: 100000, idle: 1, socket: true}
    command: [sh, -c, 'while read -r line; do case $line in *never*) continue; esac; id=${line#*\"id\":}; id=${id%%,*}; echo "{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":1}"; done']
"#;

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all();
    builder.thread_keep_alive(Duration::from_millis(10));
    builder.build().unwrap()
}

#[test]
fn ten_thousand_connections_of_every_kind_leave_nothing_behind() {
    let upstream = upstream();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("proxy.yaml");
    let to = upstream.address;
    let config = format!(
        "upstream: http://{to}\n{CONFIG}\
         - {{path: /feed, feed: {{url: \"http://{to}/feed\"}}}}\n\
         - {{path: /app, upstreams: [\"http://{to}\"], sticky: {{cookie: whose, idle: 1}}}}\n"
    );
    std::fs::write(&file, config).unwrap();
    let config = Config::load(&file).unwrap();

    // Waits for a child process before the measurement, since tokio then allocates some state and
    // keeps it.
    drop(
        runtime()
            .block_on(async { signal(SignalKind::child()) })
            .unwrap(),
    );
    let check = LeakCheck::new();
    let runtime = runtime();
    let mut server = runtime.block_on(ProxyServer::start(config)).unwrap();
    let (http, tls) = (server.addresses()[0], server.tls_addresses()[0]);

    let settled = || {
        eventually("the end of all connections and sessions", || {
            (server.connections().active == 0 && server.sessions().active == 0).then_some(())
        });
        let tasks = runtime.metrics().num_alive_tasks();
        (tasks, ALLOCATIONS.load(Ordering::Relaxed))
    };
    // Makes some rounds before the measurement, so that pools, buffers and caches reach their full
    // size.
    rounds(ROUNDS / 5, 1, http, tls);
    let (tasks, allocations) = settled();
    rounds(ROUNDS - ROUNDS / 5, 8, http, tls);
    eventually("as many tasks and allocations as before", || {
        let (tasks_now, allocations_now) = settled();
        // Allows for a few upstream connections more or less, and for the session cache, which
        // frees its memory in batches. A leak in each connection or session would exceed these
        // numbers.
        let near = tasks_now <= tasks + 20 && allocations_now <= allocations + 1000;
        near.then_some(())
    });
    assert_eq!(server.listeners(), 0);
    let counts = server.connections();
    assert!(counts.accepted >= 10_000, "{counts:?}");
    assert_eq!(counts.rejected, 0);

    let report = runtime.block_on(server.shutdown_gracefully(Duration::from_secs(20)));
    let report = report.unwrap();
    assert!(report.is_clean(), "{report}");
    drop(server);
    // Waits, since the task of a connection needs a worker thread to end.
    eventually("the end of all tasks", || {
        (runtime.metrics().num_alive_tasks() == 0).then_some(())
    });
    drop(runtime);
    eventually("nothing left", || check.leaks().is_empty().then_some(()));
}

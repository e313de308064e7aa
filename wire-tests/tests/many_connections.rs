//! A server closes 10,000 connections in order, and frees everything that they took.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use lifecycle_wire_tests::load::{Process, descriptors};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

const SERVER: &str = env!("CARGO_BIN_EXE_wire-server");
const MANY: usize = 10_000;

async fn idle(process: &Process, count: usize) -> Vec<TcpStream> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = TcpStream::connect(process.address).await.unwrap();
        client
            .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            .await
            .unwrap();
        client.read_exact(&mut [0; 4096]).await.unwrap();
        clients.push(client);
    }
    // This waits until the server counts the connections as idle.
    sleep(Duration::from_millis(500)).await;
    clients
}

/// Returns how many bytes and descriptors the server uses. It asks over one more connection, which counts, too.
async fn held(process: &Process) -> (i64, usize) {
    let mut client = TcpStream::connect(process.address).await.unwrap();
    client
        .write_all(b"GET /heap HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    let (_, heap) = answer.rsplit_once("\r\n").unwrap();
    (heap.parse().unwrap(), descriptors(process.id()))
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_idle_connections_are_closed_in_order() {
    for count in [0, 100, 1_000, MANY] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let process = Process::start(SERVER, &listener).await.unwrap();
        drop(listener);
        let clients = idle(&process, count).await;
        process.terminate().await;
        let (code, report) = process.ended().await;
        println!(
            "{count} idle: {}",
            report.lines().next().unwrap_or_default()
        );
        assert_eq!(code, Some(0), "{report}");
        for mut client in clients {
            let mut rest = Vec::new();
            client
                .read_to_end(&mut rest)
                .await
                .expect("it is closed in order, not reset");
        }
    }
}

/// The bytes that the server may keep after thousands of connections, because the tables that list connections do not
/// shrink.
const KEPT: i64 = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn the_memory_of_thousands_of_connections_is_freed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let process = Process::start(SERVER, &listener).await.unwrap();
    // The first connections allocate memory that all later connections share. So they are opened before the
    // measurement.
    drop(idle(&process, 100).await);
    let (heap, fds) = held(&process).await;
    for _ in 0..3 {
        let clients = idle(&process, 3_000).await;
        let (with, _) = held(&process).await;
        assert!(with > heap + 50 * KEPT, "{heap} bytes, then {with}");
        drop(clients);
        let start = Instant::now();
        let after = loop {
            let (after, left) = held(&process).await;
            if after <= heap + KEPT && left <= fds {
                break after;
            }
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "{heap} bytes, then {with}, then {after}; {fds} descriptors, then {left}"
            );
            sleep(Duration::from_millis(10)).await;
        };
        println!("heap: {heap} bytes, {with} with 3,000 connections, {after} without");
    }
    process.terminate().await;
    assert_eq!(process.ended().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_connections_past_the_limit_are_refused_and_cost_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let process = Process::start_with(SERVER, &listener, [("WIRE_LIMIT", "100")])
        .await
        .unwrap();
    let mut admitted = idle(&process, 100).await;
    let fds = descriptors(process.id());
    for _ in 0..MANY {
        let mut client = TcpStream::connect(process.address).await.unwrap();
        // The write and the read may fail, because the server may close the connection first.
        let _ = client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer).await;
        assert!(
            answer.is_empty() || answer.starts_with(b"HTTP/1.1 503 "),
            "{}",
            String::from_utf8_lossy(&answer)
        );
    }
    assert!(descriptors(process.id()) <= fds + 1);
    for client in &mut admitted {
        client
            .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            .await
            .unwrap();
        client
            .read_exact(&mut [0; 4096])
            .await
            .expect("it is served as before");
    }
    process.terminate().await;
    assert_eq!(process.ended().await.0, Some(0));
}

//! 10,000 connections: closed soon, and all that they took is given back.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use lifecycle_wire_tests::load::Process;
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
    // Until no client is in dialogue any more.
    sleep(Duration::from_millis(500)).await;
    clients
}

fn descriptors(process: &Process) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", process.id()))
        .unwrap()
        .count()
}

/// Resident memory, in KiB.
fn memory(process: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
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

#[tokio::test(flavor = "multi_thread")]
async fn what_thousands_of_connections_took_is_given_back() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // With an arena a thread it takes the allocator many rounds to have enough of each.
    let process = Process::start_with(SERVER, &listener, [("MALLOC_ARENA_MAX", "1")])
        .await
        .unwrap();
    drop(idle(&process, 100).await);
    let (mut seen, fds) = (Vec::new(), descriptors(&process));
    for _ in 0..8 {
        let clients = idle(&process, 3_000).await;
        seen.push(memory(&process));
        drop(clients);
        let start = Instant::now();
        while descriptors(&process) > fds {
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "{} descriptors",
                descriptors(&process)
            );
            sleep(Duration::from_millis(10)).await;
        }
    }
    println!("KiB with 3,000 connections, time after time: {seen:?}");
    // Allocators keep what they got; what matters is that it is enough for the next time.
    assert!(seen[7] <= seen[4] + seen[4] / 20, "{seen:?}");
    process.terminate().await;
    assert_eq!(process.ended().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_past_the_limit_are_refused_and_cost_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let process = Process::start_with(SERVER, &listener, [("WIRE_LIMIT", "100")])
        .await
        .unwrap();
    let mut admitted = idle(&process, 100).await;
    let fds = descriptors(&process);
    for _ in 0..MANY {
        let mut client = TcpStream::connect(process.address).await.unwrap();
        // Neither is certain to be heard: it may be closed before it speaks.
        let _ = client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer).await;
        assert!(
            answer.is_empty() || answer.starts_with(b"HTTP/1.1 503 "),
            "{}",
            String::from_utf8_lossy(&answer)
        );
    }
    assert!(descriptors(&process) <= fds + 1);
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

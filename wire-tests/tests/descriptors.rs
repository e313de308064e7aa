//! A server that has no descriptors for more connections neither ends nor spins. It goes on accepting when descriptors
//! are free again.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use lifecycle_wire_tests::app::ANSWER;
use lifecycle_wire_tests::load::{Process, descriptors};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

const SERVER: &str = env!("CARGO_BIN_EXE_wire-server");
const FILES: usize = 64;
/// The number of clients. It is more than the server has descriptors for, and fewer than the kernel queues.
const CLIENTS: usize = 120;

async fn asks(client: &mut TcpStream) {
    let ask = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    client.write_all(ask).await.unwrap();
}

async fn is_answered(client: &mut TcpStream) -> bool {
    client.read_exact(&mut [0; ANSWER]).await.is_ok()
}

/// Returns the processor time that a process has used, in hundredths of a second.
fn used(process: &Process) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.id())).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let fields = fields.split(' ').skip(11).take(2);
    fields.map(|time| time.parse::<u64>().unwrap()).sum()
}

#[tokio::test]
async fn a_server_without_descriptors_waits_and_then_goes_on() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let files = FILES.to_string();
    let process = Process::start_with(SERVER, &listener, [("WIRE_FILES", files.as_str())])
        .await
        .unwrap();
    drop(listener);

    // The kernel completes and queues all connections. The server accepts only as many as it has descriptors for.
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = TcpStream::connect(process.address).await.unwrap();
        asks(&mut client).await;
        clients.push(client);
    }
    for client in &mut clients[..FILES / 2] {
        assert!(is_answered(client).await);
    }
    let start = Instant::now();
    while descriptors(process.id()) < FILES {
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "descriptors are still free"
        );
        sleep(Duration::from_millis(10)).await;
    }

    // The processor time is measured, because a loop that spins would use a whole core.
    let before = used(&process);
    sleep(Duration::from_secs(3)).await;
    let spent = used(&process) - before;
    println!("{spent} hundredths of a second in 3 s without a descriptor");
    assert!(spent < 20, "{spent}");
    for client in &mut clients[..FILES / 2] {
        asks(client).await;
        assert!(is_answered(client).await, "accepted connections are served");
    }

    // The server serves the queued connections once other connections have closed.
    let waited = clients.split_off(CLIENTS / 2);
    drop(clients);
    for mut client in waited {
        let answered = timeout(Duration::from_secs(30), is_answered(&mut client)).await;
        assert!(answered.unwrap());
    }
    process.terminate().await;
    let (code, report) = process.ended().await;
    assert_eq!(code, Some(0), "{report}");
}

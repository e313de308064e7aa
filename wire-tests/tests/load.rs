//! Stopped under full load: what was begun is whole; and with a second instance on the same socket nothing fails at all.

use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lifecycle_wire_tests::load::{Process, Tally, ask_h1, ask_h2};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::sleep;

const SERVER: &str = env!("CARGO_BIN_EXE_wire-server");

fn runs() -> usize {
    std::env::var("WIRE_RUNS")
        .ok()
        .and_then(|runs| runs.parse().ok())
        .unwrap_or(20)
}

fn tool(name: &str, arguments: &[&str]) -> Child {
    let spawned = Command::new(name)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn();
    spawned.unwrap_or_else(|error| panic!("{name}: {error}; `.ci/wire` installs it"))
}

struct Load {
    tally: Arc<Tally>,
    end: Arc<AtomicBool>,
    clients: JoinSet<()>,
    /// They ask as fast as they can; the clients above look at every byte.
    _tools: [Child; 2],
}

impl Load {
    fn start(address: SocketAddr) -> Self {
        let (tally, end) = (Arc::<Tally>::default(), Arc::<AtomicBool>::default());
        let mut clients = JoinSet::new();
        for _ in 0..16 {
            clients.spawn(ask_h1(address, tally.clone(), end.clone()));
        }
        for _ in 0..4 {
            clients.spawn(ask_h2(address, tally.clone(), end.clone()));
        }
        let url = format!("http://{address}/");
        let tools = [
            tool("wrk", &["-t1", "-c64", "-d60s", &url]),
            tool("h2load", &["-c16", "-m16", "-D60", &url]),
        ];
        Self {
            tally,
            end,
            clients,
            _tools: tools,
        }
    }

    /// Waits until so many more answers have come, within a generous time.
    async fn answers(&self, more: u64) {
        let (start, before) = (Instant::now(), Tally::get(&self.tally.whole));
        while Tally::get(&self.tally.whole) < before + more {
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "{:?}",
                self.tally
            );
            sleep(Duration::from_millis(1)).await;
        }
    }

    async fn ends(mut self) -> Arc<Tally> {
        self.end.store(true, Ordering::Relaxed);
        while self.clients.join_next().await.is_some() {}
        self.tally
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_that_was_begun_is_whole() {
    let (mut whole, mut broken, mut unanswered) = (0, 0, 0);
    for _ in 0..runs() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let process = Process::start(SERVER, &listener).await.unwrap();
        let load = Load::start(process.address);
        drop(listener);
        load.answers(500).await;
        process.terminate().await;
        let (code, report) = process.ended().await;
        let tally = load.ends().await;
        assert_eq!(code, Some(0), "{report}");
        whole += Tally::get(&tally.whole);
        broken += Tally::get(&tally.broken);
        unanswered += Tally::get(&tally.unanswered);
    }
    println!("one instance: {whole} whole, {broken} broken, {unanswered} never begun");
    assert_eq!(broken, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_successor_on_the_same_socket_no_request_fails() {
    let (mut whole, mut failed) = (0, 0);
    for run in 0..runs() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let first = Process::start(SERVER, &listener).await.unwrap();
        let load = Load::start(first.address);
        load.answers(300).await;
        let second = Process::start(SERVER, &listener).await.unwrap();
        load.answers(100).await;
        first.terminate().await;
        let (code, report) = first.ended().await;
        assert_eq!(code, Some(0), "{report}");
        load.answers(100).await;
        let tally = load.ends().await;
        second.terminate().await;
        let (code, report) = second.ended().await;
        assert_eq!(code, Some(0), "{report}");
        let lost =
            Tally::get(&tally.broken) + Tally::get(&tally.unanswered) + Tally::get(&tally.refused);
        if lost > 0 {
            println!("run {run}: {tally:?}");
        }
        whole += Tally::get(&tally.whole);
        failed += lost;
    }
    println!("two instances: {whole} whole, {failed} failed");
    assert_eq!(failed, 0);
}

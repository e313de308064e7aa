//! A server that shuts down under full load completes every response that it began. If a second server accepts on the
//! same socket, no request fails.

use std::net::TcpListener;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lifecycle_wire_tests::load::{Process, Tally, ask_h1, ask_h2, descriptors, signal};
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
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn();
    spawned.unwrap_or_else(|error| panic!("{name}: {error}; `.ci/wire` installs it"))
}

/// Reads the number of requests from wrk's line `  1234 requests in 1.00s, 5.00MB read`.
fn requests(wrk: &str) -> Option<u64> {
    let line = wrk.lines().find(|line| line.contains(" requests in "))?;
    line.split_whitespace().next()?.parse().ok()
}

const H1: usize = 16;
const H2: usize = 4;
const WRK: usize = 64;
const H2LOAD: usize = 16;

struct Load {
    tally: Arc<Tally>,
    end: Arc<AtomicBool>,
    clients: JoinSet<()>,
    // wrk and h2load send as many requests as they can. The other clients check every byte.
    wrk: Child,
    _h2load: Child,
}

impl Load {
    /// Starts the load, and waits until all clients are connected to `process`.
    async fn start(process: &Process) -> Self {
        let address = process.address;
        let (tally, end) = (Arc::<Tally>::default(), Arc::<AtomicBool>::default());
        let mut clients = JoinSet::new();
        for _ in 0..H1 {
            clients.spawn(ask_h1(address, tally.clone(), end.clone()));
        }
        for _ in 0..H2 {
            clients.spawn(ask_h2(address, tally.clone(), end.clone()));
        }
        let url = format!("http://{address}/");
        let load = Self {
            tally,
            end,
            clients,
            wrk: tool("wrk", &["-t1", &format!("-c{WRK}"), "-d60s", &url]),
            _h2load: tool("h2load", &[&format!("-c{H2LOAD}"), "-m16", "-D60", &url]),
        };
        let start = Instant::now();
        while descriptors(process.id()) < H1 + H2 + WRK + H2LOAD {
            assert!(start.elapsed() < Duration::from_secs(60), "not all connect");
            sleep(Duration::from_millis(1)).await;
        }
        load
    }

    /// Waits until the clients have received `more` further responses.
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

    /// Ends the load. Returns the counts of what the clients saw, and the output of wrk.
    async fn ends(mut self) -> (Arc<Tally>, String) {
        self.end.store(true, Ordering::Relaxed);
        while self.clients.join_next().await.is_some() {}
        let wrk = self.wrk.id().expect("it runs for longer");
        signal(wrk, "INT").await;
        let said = self.wrk.wait_with_output().await.expect("it ends");
        (
            self.tally,
            String::from_utf8_lossy(&said.stdout).into_owned(),
        )
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_response_that_began_is_whole() {
    let (mut whole, mut broken, mut unanswered) = (0, 0, 0);
    for _ in 0..runs() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let process = Process::start(SERVER, &listener).await.unwrap();
        let load = Load::start(&process).await;
        drop(listener);
        load.answers(500).await;
        process.terminate().await;
        let (code, report) = process.ended().await;
        let (tally, _) = load.ends().await;
        assert_eq!(code, Some(0), "{report}");
        whole += Tally::get(&tally.whole);
        broken += Tally::get(&tally.broken);
        unanswered += Tally::get(&tally.unanswered);
    }
    println!("one instance: {whole} whole, {broken} broken, {unanswered} never begun");
    assert_eq!(broken, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_with_a_successor_on_the_same_socket() {
    let (mut whole, mut by_wrk, mut failed) = (0, 0, 0);
    for run in 0..runs() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let first = Process::start(SERVER, &listener).await.unwrap();
        let load = Load::start(&first).await;
        load.answers(300).await;
        let second = Process::start(SERVER, &listener).await.unwrap();
        load.answers(100).await;
        first.terminate().await;
        let (code, report) = first.ended().await;
        assert_eq!(code, Some(0), "{report}");
        load.answers(100).await;
        let (tally, wrk) = load.ends().await;
        second.terminate().await;
        let (code, report) = second.ended().await;
        assert_eq!(code, Some(0), "{report}");
        let lost =
            Tally::get(&tally.broken) + Tally::get(&tally.unanswered) + Tally::get(&tally.refused);
        if lost > 0 {
            println!("run {run}: {tally:?}");
        }
        // wrk prints these lines only if there were errors.
        let complains = wrk.contains("Socket errors") || wrk.contains("Non-2xx");
        assert!(!complains, "{wrk}");
        by_wrk += requests(&wrk).expect("wrk tells how many it sent");
        whole += Tally::get(&tally.whole);
        failed += lost;
    }
    println!("two instances: {whole} whole and {by_wrk} by wrk, {failed} failed");
    assert_eq!(failed, 0);
}

//! Measures how long the proxy takes from SIGTERM until its process has ended, with many idle connections.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::Result;
use crate::clients::Clients;
use crate::process::{Server, build_proxy, free_address, now, raise_open_files};
use crate::stats::spread;
use crate::upstream::Upstream;

/// Each number of connections that is measured, with the longest time that a shutdown with so many connections may
/// take, in milliseconds.
const GOALS: [(usize, f64); 4] = [(0, 5.0), (100, 10.0), (1_000, 50.0), (10_000, 500.0)];

/// The number of file descriptors that the proxy needs for other things than connections.
const RESERVE: u64 = 64;

/// The time for which the connections are idle before the shutdown. It is longer than the time that a client has for one
/// more request after its last response, since a connection is closed at once only after that.
const IDLE: Duration = Duration::from_millis(400);

/// The times of one shutdown, in milliseconds.
struct Drain {
    /// The time from SIGTERM until the last client saw its connection closed.
    closed: f64,
    /// The time from SIGTERM until the proxy's process had ended.
    ended: f64,
}

/// Measures a shutdown with each number of connections in [`GOALS`]. Returns whether all goals hold.
pub(crate) fn run(rounds: usize) -> Result<bool> {
    let proxy = build_proxy()?;
    let upstream = Upstream::start()?;
    // The proxy may need two descriptors for a client: its connection, and one to an upstream.
    let most = usize::try_from(raise_open_files()?.saturating_sub(RESERVE) / 2)?;
    println!("Shutdown with idle connections, {rounds} rounds, ms: median (quartiles)\n");
    println!("| connections | last one closed | process ended | goal | |");
    println!("|---:|---:|---:|---:|---|");
    let mut holds = true;
    for (count, goal) in GOALS {
        let count = count.min(most);
        // The first run is not measured: it loads the program into the kernel's page cache.
        once(&proxy, &upstream, count)?;
        let drains: Vec<_> = (0..rounds)
            .map(|_| once(&proxy, &upstream, count))
            .collect::<Result<_>>()?;
        let closed = spread(drains.iter().map(|drain| drain.closed));
        let ended = spread(drains.iter().map(|drain| drain.ended));
        let met = ended.median <= goal;
        holds &= met;
        println!(
            "| {count} | {:.1} ({:.1}–{:.1}) | {:.1} ({:.1}–{:.1}) | {goal} | {} |",
            closed.median,
            closed.low,
            closed.high,
            ended.median,
            ended.low,
            ended.high,
            if met { "holds" } else { "missed" },
        );
    }
    println!();
    Ok(holds)
}

fn once(proxy: &Path, upstream: &Upstream, connections: usize) -> Result<Drain> {
    let directory = tempfile::tempdir()?;
    let address = free_address()?;
    let config = directory.path().join("proxy.yaml");
    std::fs::write(&config, config_of(address, upstream, connections))?;
    let mut command = Command::new(proxy);
    command.arg("-c").arg(&config).args(["--log", "json"]);
    let log = directory.path().join("log");
    let mut server = Server::start(&mut command, address, &log)?;
    let clients = Clients::start(address, connections)?;
    std::thread::sleep(IDLE);

    let told = now();
    let orderly = server.stop()?;
    let ended = now() - told;
    let (closed, at) = clients.closed()?;
    if !orderly || closed < connections {
        let log = std::fs::read_to_string(log)?;
        return Err(format!("{closed} of {connections} closed in order\n{log}").into());
    }
    let closed = Duration::from_nanos(at).saturating_sub(told);
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    Ok(Drain {
        // Without clients there is no last connection, so its time is 0.
        closed: if connections == 0 {
            0.0
        } else {
            millis(closed)
        },
        ended: millis(ended),
    })
}

fn config_of(address: SocketAddr, upstream: &Upstream, connections: usize) -> String {
    format!(
        "listen_addrs: [\"{address}\"]\nupstream: http://{}\nmax_connections: {}\n",
        upstream.address,
        // The benchmark itself connects once, to see whether the proxy listens, so the proxy counts one more
        // connection.
        connections + 1,
    )
}

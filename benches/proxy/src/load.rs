//! Measures the proxy's throughput and its 99th percentile of latency.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::thread::available_parallelism;

use tempfile::TempDir;

use crate::bare::{self, FLOOR, TRACKED, UNTRACKED};
use crate::peers::{self, BODIES};
use crate::process::{Server, free_address};
use crate::stats::{median, spread};
use crate::{Result, wrk};

const CLIENTS: usize = 64;

/// The least allowed ratio of the throughputs, and the greatest allowed ratio of the 99th percentiles of latency. Each
/// is the value with tracking, divided by the value without it.
const GOALS: (f64, f64) = (0.99, 1.02);

struct Contestant {
    name: &'static str,
    server: Server,
}

struct Arena {
    directory: TempDir,
    upstream: Server,
}

/// The result of one run of wrk against a contestant.
struct Turn {
    requests_a_second: f64,
    p99_ms: f64,
    /// The processor time that the contestant used for a request, in microseconds.
    processor_us: f64,
}

impl Arena {
    fn new() -> Result<Self> {
        peers::install()?;
        let directory = tempfile::tempdir()?;
        let address = free_address()?;
        let mut command = peers::upstream(directory.path(), address)?;
        let upstream = Server::start(
            &mut command,
            address,
            &directory.path().join("upstream.log"),
        )?;
        Ok(Self {
            directory,
            upstream,
        })
    }

    fn enter(
        &self,
        name: &'static str,
        command: impl FnOnce(&Path, SocketAddr, SocketAddr) -> Result<Command>,
    ) -> Result<Contestant> {
        let (directory, address) = (self.directory.path(), free_address()?);
        let mut command = command(directory, address, self.upstream.address)?;
        let log = directory.join(format!("{name}.log"));
        let server = Server::start(&mut command, address, &log)?;
        Ok(Contestant { name, server })
    }
}

/// Compares the proxy with nginx and haproxy. No goal is set, so this cannot fail.
pub(crate) fn beside_peers(rounds: usize) -> Result<()> {
    let threads = available_parallelism()?.get();
    let arena = Arena::new()?;
    let contestants = [
        arena.enter("nginx", |directory, at, to| {
            peers::nginx_proxy(directory, at, to, threads)
        })?,
        arena.enter("haproxy", |directory, at, to| {
            peers::haproxy(directory, at, to, threads)
        })?,
        arena.enter("this proxy", |_, at, to| bare::command(TRACKED, at, to))?,
        arena.enter("hyper alone", |_, at, to| bare::command(FLOOR, at, to))?,
    ];
    for (body, length) in BODIES {
        let turns = play(&contestants, body, rounds, 3)?;
        println!("Bodies of {length} bytes, {CLIENTS} connections, {rounds} rounds of 3 s\n");
        println!(
            "| | requests/s | p99, ms | processor, µs a request | throughput ÷ nginx | ÷ haproxy |"
        );
        println!("|---|---:|---:|---:|---:|---:|");
        for (contestant, own) in contestants.iter().zip(&turns) {
            println!(
                "| {} | {:.0} | {:.2} | {:.1} | {:.2} | {:.2} |",
                contestant.name,
                median(own.iter().map(|turn| turn.requests_a_second)),
                median(own.iter().map(|turn| turn.p99_ms)),
                median(own.iter().map(|turn| turn.processor_us)),
                ratio(own, &turns[0], |turn| turn.requests_a_second),
                ratio(own, &turns[1], |turn| turn.requests_a_second),
            );
        }
        println!();
    }
    Ok(())
}

/// The rounds after which both proxies are started anew. Where a process finds its memory makes two starts of the same
/// program differ by hundredths.
const ROUNDS_A_START: usize = 4;

/// Compares the proxy with tracking to the proxy without tracking. Returns whether [`GOALS`] hold.
pub(crate) fn tracking(rounds: usize) -> Result<bool> {
    let arena = Arena::new()?;
    let mut holds = true;
    println!(
        "Tracking on ÷ off, {CLIENTS} connections, {rounds} rounds of 1 s, {ROUNDS_A_START} with each start: median (quartiles)\n"
    );
    println!("| body | throughput | goal | p99 | goal | processor a request | |");
    println!("|---:|---:|---:|---:|---:|---:|---|");
    for (body, length) in BODIES {
        let mut turns = [Vec::new(), Vec::new()];
        for _ in 0..rounds / ROUNDS_A_START {
            let contestants = [
                arena.enter("on", |_, at, to| bare::command(TRACKED, at, to))?,
                arena.enter("off", |_, at, to| bare::command(UNTRACKED, at, to))?,
            ];
            let played = play(&contestants, body, ROUNDS_A_START, 1)?;
            for (turns, played) in turns.iter_mut().zip(played) {
                turns.extend(played);
            }
        }
        let [on, off] = &turns[..] else {
            return Err("two contestants".into());
        };
        let of = |value: fn(&Turn) -> f64| spread(ratios(on, off, value));
        let throughput = of(|turn| turn.requests_a_second);
        let p99 = of(|turn| turn.p99_ms);
        let processor = of(|turn| turn.processor_us);
        let met = throughput.median >= GOALS.0 && p99.median <= GOALS.1;
        holds &= met;
        println!(
            "| {length} | {throughput} | ≥ {} | {p99} | ≤ {} | {processor} | {} |",
            GOALS.0,
            GOALS.1,
            if met { "holds" } else { "missed" }
        );
    }
    println!();
    Ok(holds)
}

/// Runs wrk against every contestant in every round. The order of the contestants rotates from round to round. Returns
/// the turns of each contestant.
fn play(
    contestants: &[Contestant],
    body: &str,
    rounds: usize,
    seconds: u32,
) -> Result<Vec<Vec<Turn>>> {
    let mut turns: Vec<_> = contestants.iter().map(|_| Vec::new()).collect();
    for contestant in contestants {
        turn(contestant, body, 1)?;
    }
    for round in 0..rounds {
        for place in 0..contestants.len() {
            let index = (round + place) % contestants.len();
            turns[index].push(turn(&contestants[index], body, seconds)?);
        }
    }
    Ok(turns)
}

fn turn(contestant: &Contestant, body: &str, seconds: u32) -> Result<Turn> {
    let before = contestant.server.processor_time()?;
    let load = wrk::run(contestant.server.address, body, CLIENTS, seconds)
        .map_err(|error| format!("{}: {error}", contestant.name))?;
    let used = contestant.server.processor_time()? - before;
    Ok(Turn {
        requests_a_second: load.requests_a_second,
        p99_ms: load.p99_ms,
        processor_us: used.as_secs_f64() * 1e6 / load.requests,
    })
}

fn ratios(own: &[Turn], other: &[Turn], value: impl Fn(&Turn) -> f64) -> Vec<f64> {
    let pairs = own.iter().zip(other);
    pairs
        .map(|(own, other)| value(own) / value(other))
        .collect()
}

fn ratio(own: &[Turn], other: &[Turn], value: impl Fn(&Turn) -> f64) -> f64 {
    median(ratios(own, other, value))
}

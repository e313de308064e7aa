//! Measures the reverse proxy: its shutdown with many idle connections, and its throughput compared with nginx, with
//! haproxy, and with itself without tracking.

mod bare;
mod clients;
mod drain;
mod floor;
mod load;
mod peers;
mod process;
mod stats;
mod upstream;
mod wrk;

use std::error::Error;
use std::process::ExitCode;

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

const USAGE: &str = "usage: lifecycle-proxy-bench [--quick] [drain|load|tracking]…";

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &[String]) -> Result<ExitCode> {
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    // The benchmarks start this program again in other roles, each in its own process.
    match *args {
        [clients::ROLE, address, count] => return clients::run(address, count.parse()?),
        [bare::ROLE, with, listen, upstream] => return bare::run(with, listen, upstream),
        _ => {}
    }
    let quick = args.contains(&"--quick");
    let chosen: Vec<_> = args.into_iter().filter(|arg| *arg != "--quick").collect();
    if chosen
        .iter()
        .any(|name| !["drain", "load", "tracking"].contains(name))
    {
        return Err(USAGE.into());
    }
    let wants = |name| chosen.is_empty() || chosen.contains(&name);
    let mut holds = true;
    if wants("drain") {
        holds &= drain::run(if quick { 3 } else { 11 })?;
    }
    if wants("load") {
        load::beside_peers(if quick { 3 } else { 9 })?;
    }
    if wants("tracking") {
        holds &= load::tracking(if quick { 4 } else { 128 })?;
    }
    if holds {
        return Ok(ExitCode::SUCCESS);
    }
    println!("Not every goal holds.");
    Ok(ExitCode::FAILURE)
}

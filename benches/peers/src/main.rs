//! Runs a server of two parts, `A` and `B`, whose shutdown is handled by another crate, the peer: `lifecycle-peers PEER
//! SCENARIO`.
//!
//! The server prints a line for every event, and reads one command from each line of standard input. `call` makes the
//! server call the peer to request the shutdown. `future` completes a future at which the peer begins the shutdown.
//! `overrule` completes a future at which the peer stops waiting for the parts. `fail` makes part `A` fail, and `go`
//! ends the parts that wait for it.

mod part;
mod peers;

use std::process::ExitCode;

use part::{Play, Scenario};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(peer), Some(scenario)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: lifecycle-peers PEER SCENARIO");
        return ExitCode::from(2);
    };
    let play = Play::new(match scenario.as_str() {
        "panics" => Scenario::Panics,
        "hangs" => Scenario::Hangs,
        _ => Scenario::Waits,
    });
    let result = match peer.as_str() {
        "tokio-util" => peers::tokio_util(play).await,
        "tokio-graceful-shutdown" => peers::tokio_graceful_shutdown(play).await,
        "tokio-graceful" => peers::tokio_graceful(play).await,
        "async-shutdown" => peers::async_shutdown(play).await,
        "drain" => peers::drain(play).await,
        "elegant-departure" => peers::elegant_departure(play).await,
        _ => {
            eprintln!("there is no peer `{peer}`");
            return ExitCode::from(2);
        }
    };
    println!("result {result}");
    ExitCode::SUCCESS
}

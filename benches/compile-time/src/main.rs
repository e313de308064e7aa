//! Measures how long a crate of 50 derived structs with 20 fields each takes to compile, with this derive and with
//! other derives.
//!
//! `cargo run -- [rounds] [folder]` writes the crates into the folder (a temporary one, if none is given), builds what
//! they depend on, then compiles each of them in turn, round after round, and prints the medians.

mod crates;
mod measure;

use std::path::PathBuf;
use std::{env, fs, io, process};

use crate::crates::{CONTESTANTS, SHAPES};
use crate::measure::{Case, Command, Sample, State};

const CASES: [Case; 4] = [
    Case::new(Command::Check, State::Cold),
    Case::new(Command::Check, State::OneChanged),
    Case::new(Command::Build, State::Cold),
    Case::new(Command::Build, State::OneChanged),
];

fn main() -> io::Result<()> {
    let mut args = env::args().skip(1);
    let rounds = match args.next().map(|rounds| rounds.parse()) {
        None => 9,
        Some(Ok(rounds)) => rounds,
        Some(Err(_)) => {
            eprintln!("usage: cargo run -- [rounds] [folder]");
            process::exit(2);
        }
    };
    let folder = args.next().map_or_else(
        || env::temp_dir().join("lifecycle-compile-time"),
        PathBuf::from,
    );
    fs::create_dir_all(&folder)?;
    crates::write(&folder)?;
    measure::prepare(&folder)?;
    for shape in SHAPES {
        let mut samples: Vec<Vec<Vec<Sample>>> =
            vec![vec![Vec::new(); CONTESTANTS.len()]; CASES.len()];
        for round in 0..rounds {
            for (case, samples) in CASES.iter().zip(&mut samples) {
                // The order of the contestants rotates from round to round, so that no contestant is always first.
                for place in 0..CONTESTANTS.len() {
                    let place = (place + round) % CONTESTANTS.len();
                    let name = crates::package(shape, CONTESTANTS[place]);
                    samples[place].push(measure::sample(&folder, &name, case)?);
                }
            }
        }
        print(shape.name, &samples);
    }
    Ok(())
}

fn print(shape: &str, samples: &[Vec<Vec<Sample>>]) {
    println!("\n### {shape}\n");
    println!(
        "| derive | {} |",
        CASES.map(|case| case.to_string()).join(" | ")
    );
    println!("|---|{}", "---|".repeat(CASES.len()));
    let serde = CONTESTANTS
        .iter()
        .position(|contestant| contestant.name == "serde");
    for (place, contestant) in CONTESTANTS.iter().enumerate() {
        let cells = samples.iter().map(|case| {
            let own = Sample::median(&case[place]);
            let base = Sample::median(&case[serde.unwrap_or(0)]);
            format!(
                "{:.2} s, cpu {:.2} s ({:.2} ×)",
                own.wall,
                own.cpu,
                own.cpu / base.cpu
            )
        });
        println!(
            "| {} | {} |",
            contestant.title,
            cells.collect::<Vec<_>>().join(" | ")
        );
    }
}

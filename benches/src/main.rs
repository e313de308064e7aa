//! Runs the same benchmarks on this project and on other crates, the contestants. Every contestant of a table takes a
//! turn in every round, and the table shows the medians.

mod alloc;
mod derived;
mod drain;
mod idle;
mod last;
mod pass;
mod spawn;
mod table;

use std::process::ExitCode;

use table::Table;

#[global_allocator]
static ALLOCATOR: alloc::Counting = alloc::Counting;

type Bench = (&'static str, fn(rounds: usize) -> Vec<Table>);

const BENCHES: [Bench; 6] = [
    ("pass", pass::run),
    ("spawn", spawn::run),
    ("drain", drain::run),
    ("last", last::run),
    ("derived", derived::run),
    ("idle", idle::run),
];

const USAGE: &str = "usage: lifecycle-benches [--quick] [--json FILE] [--only CONTESTANT] [pass|spawn|drain|last|derived|idle]…";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let mut rounds = 31;
    let mut json = None;
    let mut chosen = Vec::new();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            // Runs a single drain of elegant-departure, whose global state needs a new process for each drain.
            drain::CHILD => return drain::child(args),
            "--quick" => rounds = 5,
            "--json" => json = args.next(),
            // Runs only the contestants with the given names, so that a profiler sees only them.
            "--only" => table::only(args.next().unwrap_or_default()),
            name if BENCHES.iter().any(|(bench, _)| *bench == name) => chosen.push(arg),
            _ => {
                eprintln!("{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    let mut tables = Vec::new();
    for (name, run) in BENCHES {
        if chosen.is_empty() || chosen.iter().any(|chosen| chosen == name) {
            for table in run(rounds) {
                println!("{table}");
                tables.push(table);
            }
        }
    }
    if let Some(path) = json {
        let tables: Vec<_> = tables.iter().map(Table::to_json).collect();
        let text = format!("{:#}\n", serde_json::Value::from(tables));
        if let Err(error) = std::fs::write(&path, text) {
            eprintln!("{path}: {error}");
            return ExitCode::FAILURE;
        }
    }
    if tables.iter().all(Table::holds) {
        ExitCode::SUCCESS
    } else {
        println!("Not every goal holds.");
        ExitCode::FAILURE
    }
}

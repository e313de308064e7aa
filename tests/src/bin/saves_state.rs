//! Saves a state to the given file. The program saves again and again until it is killed, or saves once under
//! conditions in which saving fails.

use std::process::ExitCode;

use lifecycle_runtime::{BoxError, StateFile};
use lifecycle_tests::Counted;
use rustix::process::{Resource, Rlimit, Signal, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use tokio::signal::unix::{SignalKind, signal};

/// Saves one number after the other, and prints each number before and after it is saved.
async fn until_killed(path: &str) -> Result<(), BoxError> {
    let file = StateFile::<Counted>::open(path, "counted", 1).await?;
    loop {
        let number = file.update(Counted::advance);
        println!("saving {number}");
        file.save().await?;
        println!("saved {number}");
    }
}

/// Saves under a limit on the file's size, so that writing fails half-way as on a full disk.
async fn too_large(path: &str) -> Result<(), BoxError> {
    // Because SIGXFSZ has a handler, `write` returns an error beyond the limit. Without a handler, the signal would end
    // the process.
    let _heard = signal(SignalKind::from_raw(Signal::XFSZ.as_raw()))?;
    let limit = Some(4_096);
    setrlimit(
        Resource::Fsize,
        Rlimit {
            current: limit,
            maximum: limit,
        },
    )?;
    once(path).await
}

/// Saves while every descriptor is in use, so that no file can be opened.
async fn no_descriptors(path: &str) -> Result<(), BoxError> {
    let mut held = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        held.push(file);
    }
    once(path).await
}

async fn once(path: &str) -> Result<(), BoxError> {
    let file = StateFile::<Counted>::open(path, "counted", 1).await?;
    file.update(|counted| *counted = Counted::of(1_000));
    file.save().await
}

/// Gives up root's right to write to any file, for this thread and the threads that it starts.
fn drop_capabilities() -> Result<(), BoxError> {
    let none = CapabilitySet::empty();
    let sets = CapabilitySets {
        effective: none,
        permitted: none,
        inheritable: none,
    };
    Ok(set_capabilities(None, sets)?)
}

fn run(how: &str, path: &str) -> Result<(), BoxError> {
    drop_capabilities()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match how {
        "until-killed" => runtime.block_on(until_killed(path)),
        "no-descriptors" => runtime.block_on(no_descriptors(path)),
        "too-large" => runtime.block_on(too_large(path)),
        _ => runtime.block_on(once(path)),
    }
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (how, path) = (
        args.next().unwrap_or_default(),
        args.next().unwrap_or_default(),
    );
    match run(&how, &path) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("failed: {error}");
            ExitCode::from(3)
        }
    }
}

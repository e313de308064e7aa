//! Measures the time of one compilation with cargo.

use std::path::Path;
use std::process::{self, Stdio};
use std::time::Instant;
use std::{fmt, fs, io};

use crate::crates;

#[derive(Clone, Copy)]
pub(crate) enum Command {
    Check,
    Build,
}

/// The results of earlier compilations that cargo can reuse in the measured compilation.
#[derive(Clone, Copy)]
pub(crate) enum State {
    /// Only the dependencies of the crate are compiled.
    Cold,
    /// The crate was compiled, and after that a field of one struct was renamed.
    OneChanged,
}

#[derive(Clone, Copy)]
pub(crate) struct Case {
    command: Command,
    state: State,
}

impl Case {
    pub(crate) const fn new(command: Command, state: State) -> Self {
        Self { command, state }
    }

    fn word(&self) -> &'static str {
        match self.command {
            Command::Check => "check",
            Command::Build => "build",
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Cold => "cold",
            State::OneChanged => "one changed",
        };
        write!(f, "{}, {state}", self.word())
    }
}

/// The time of a compilation in seconds. `cpu` is the processor time of all its processes, which other load on the
/// machine hardly changes.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) wall: f64,
    pub(crate) cpu: f64,
}

impl Sample {
    pub(crate) fn median(samples: &[Self]) -> Self {
        let middle = |of: fn(&Self) -> f64| {
            let mut all: Vec<_> = samples.iter().map(of).collect();
            all.sort_by(f64::total_cmp);
            all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
        };
        Self {
            wall: middle(|sample| sample.wall),
            cpu: middle(|sample| sample.cpu),
        }
    }
}

/// Checks and builds every crate of the workspace once, with its dependencies.
pub(crate) fn prepare(folder: &Path) -> io::Result<()> {
    cargo(folder, &["check", "--workspace", "--quiet"])?;
    cargo(folder, &["build", "--workspace", "--quiet"])
}

pub(crate) fn sample(folder: &Path, package: &str, case: &Case) -> io::Result<Sample> {
    match case.state {
        State::Cold => cargo(folder, &["clean", "--quiet", "--package", package])?,
        State::OneChanged => {
            // `check` and `build` keep separate results, so this command compiles the crate once before the field is
            // renamed.
            cargo(folder, &[case.word(), "--quiet", "--package", package])?;
            crates::change(folder, package)?;
        }
    }
    let (before, start) = (children(), Instant::now());
    cargo(folder, &[case.word(), "--quiet", "--package", package])?;
    Ok(Sample {
        wall: start.elapsed().as_secs_f64(),
        cpu: children() - before,
    })
}

fn cargo(folder: &Path, args: &[&str]) -> io::Result<()> {
    let status = process::Command::new("cargo")
        .args(args)
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", folder.join("target"))
        .env("CARGO_INCREMENTAL", "1")
        .stdin(Stdio::null())
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!(
            "cargo {}: {status}",
            args.join(" ")
        )))
    }
}

/// Returns the processor time, in seconds, of all children that have ended and of their children; see proc_pid_stat(5).
/// Returns NaN on systems without `/proc`.
fn children() -> f64 {
    const TICKS_PER_SECOND: f64 = 100.0;
    let read = || -> Option<f64> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        // The second field is the process's name in parentheses. It may contain spaces, so the other fields are split
        // after the last parenthesis.
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<_> = rest.split_whitespace().collect();
        let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
        Some((ticks(13)? + ticks(14)?) / TICKS_PER_SECOND)
    };
    read().unwrap_or(f64::NAN)
}

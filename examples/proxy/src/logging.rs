//! The log: its format and its level.

use std::io::{IsTerminal, stderr};

use clap::ValueEnum;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

/// The format of log lines, which go to standard error.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum Format {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// Text for people.
    Human,
    /// JSON, one object a line. The plan and the report also go to the log, and not to standard
    /// output.
    Json,
}

/// Starts to log. The variable `RUST_LOG` sets targets and levels. The default level is INFO.
pub fn start(format: Format) {
    let wanted = std::env::var("RUST_LOG").ok();
    let targets = wanted
        .as_deref()
        .and_then(|text| text.parse::<Targets>().ok())
        .unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    let terminal = stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_writer(stderr);
    let lines = match format {
        Format::Json => lines.json().flatten_event(true).boxed(),
        Format::Auto if !terminal => lines.json().flatten_event(true).boxed(),
        _ => lines.with_ansi(terminal).with_target(false).boxed(),
    };
    tracing_subscriber::registry()
        .with(lines.with_filter(targets))
        .init();
}

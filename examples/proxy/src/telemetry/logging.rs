//! The log: its format and its rate limit.

use std::io::{IsTerminal, stderr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::ValueEnum;
use tokio::time::Instant;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

/// The format of log lines, which go to standard error.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum Format {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// Text.
    Human,
    /// JSON, one object a line. Plan and report go to the log instead of standard output.
    Json,
}

/// Starts to log. `RUST_LOG` sets targets and levels; the default level is INFO.
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

/// A limit of one log line a second. The caller counts what happened, so that the next line can
/// tell how often.
#[derive(Debug)]
pub struct Throttle {
    since: Instant,
    /// The time of the next allowed line, in milliseconds since `since`.
    next: AtomicU64,
}

impl Default for Throttle {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            next: AtomicU64::new(0),
        }
    }
}

impl Throttle {
    const PAUSE: Duration = Duration::from_secs(1);

    /// Returns whether a line may be logged now, and takes that permission.
    pub fn allows(&self) -> bool {
        let now = self.since.elapsed();
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        // Relaxed: no other memory is published. It only has to have one winner.
        self.next
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
                (millis(now) >= next).then(|| millis(now + Self::PAUSE))
            })
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_a_second() {
        let throttle = Throttle::default();
        assert!(throttle.allows());
        assert!(!throttle.allows());
        tokio::time::advance(Duration::from_millis(999)).await;
        assert!(!throttle.allows());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(throttle.allows());
    }
}

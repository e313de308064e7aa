//! Where log lines go, and in which form.

use std::io::{IsTerminal, stderr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::ValueEnum;
use tokio::time::Instant;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

/// The form of log lines. They go to standard error.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum Format {
    /// For people on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// For people.
    Human,
    /// One JSON object a line, and nothing on standard output.
    Json,
}

/// Begins to log. What `RUST_LOG` says of targets and levels holds; without it,
/// the level is INFO.
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

/// Lets an event be logged at most once a second. Whoever uses it keeps the
/// count that the line tells, so nothing that was held back is lost.
#[derive(Debug)]
pub struct Throttle {
    since: Instant,
    /// Milliseconds from `since` to when the next line may be logged.
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

    /// Whether this one may be logged.
    pub fn allows(&self) -> bool {
        let now = self.since.elapsed();
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        // Relaxed: nothing is published through it, it only has to be one winner.
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

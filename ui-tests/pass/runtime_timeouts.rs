//! Timeouts may be expressions of `self`, of constants and of functions.

use std::time::Duration;

use lifecycle_runtime::{Component, GracefulShutdown, ShutdownState};

const LIMIT: Duration = Duration::from_secs(2);

struct Config {
    grace: Duration,
    seconds: u64,
}

impl Config {
    fn limit(&self, step: &str) -> Duration {
        Duration::from_secs(self.seconds + step.len() as u64)
    }
}

fn close(_: &mut u8) {}

#[derive(GracefulShutdown)]
#[shutdown(timeout = self.config.grace, at_most = "60s")]
struct Server {
    #[shutdown(with = close, timeout = self.config.limit("first"))]
    first: u8,
    #[shutdown(with = close, timeout = self.limit(), at_most = const { Duration::from_secs(3) })]
    second: u8,
    #[shutdown(with = close, timeout = LIMIT)]
    third: u8,
    #[shutdown(with = close, timeout = const { LIMIT })]
    fourth: u8,
    #[shutdown(with = close, timeout = if self.first > 0 { LIMIT } else { LIMIT * 2 })]
    fifth: u8,
    #[shutdown]
    either: Either,
    config: Config,
    #[shutdown(state)]
    state: ShutdownState,
}

impl Server {
    fn limit(&self) -> Duration {
        self.config.grace / 2
    }
}

#[derive(GracefulShutdown)]
enum Either {
    A {
        #[shutdown(with = close, timeout = self.limit)]
        value: u8,
        limit: Duration,
    },
    B(#[shutdown(with = close, timeout = LIMIT)] u8),
}

#[derive(GracefulShutdown)]
#[shutdown(part, timeout = self.0)]
struct Part(Duration, #[shutdown(with = close, timeout = self.0 / 2)] u8);

fn main() {
    assert_eq!(Server::PLAN.budget(), Some(Duration::from_secs(60)));
    assert_eq!(Server::PLAN.steps()[3].timeout(), Some(LIMIT));
    assert_eq!(Server::PLAN.steps()[1].timeout(), Some(Duration::from_secs(3)));
    assert_eq!(Server::PLAN.steps()[2].timeout(), Some(LIMIT));
}

//! A server with a configured timeout: `timeout = self.config.drain`, and at most a minute.
//!
//! For `Server::PLAN`, the compiler computes the budget with the limit `at_most`. `server.plan()`
//! shows the configured timeout of this server.
//!
//! `cargo run -p lifecycle-examples --example configured_timeout -- 3600` configures an hour, which
//! is limited to the minute.

use std::num::ParseIntError;
use std::time::Duration;

use lifecycle_runtime::{Component, GracefulShutdown, Report, ShutdownState, run};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

struct Config {
    /// The time that requests may take after the shutdown has begun.
    drain: Duration,
}

impl Config {
    fn from_args() -> Result<Self, ParseIntError> {
        let seconds = std::env::args()
            .nth(1)
            .map_or(Ok(8), |argument| argument.parse())?;
        Ok(Self {
            drain: Duration::from_secs(seconds),
        })
    }
}

#[derive(GracefulShutdown)]
#[shutdown(strict, timeout = "65s")]
struct Server {
    #[shutdown(priority = 0, timeout = "1s")]
    token: CancellationToken,
    #[shutdown(priority = 10, timeout = self.config.drain, at_most = "60s")]
    requests: TaskTracker,
    #[shutdown(priority = 20, timeout = "3s", with = Journal::close)]
    journal: Journal,
    #[shutdown(skip)]
    config: Config, // has nothing to clean up
    #[shutdown(state)]
    state: ShutdownState,
}

impl Server {
    fn start(config: Config) -> Self {
        Self {
            token: CancellationToken::new(),
            requests: TaskTracker::new(),
            journal: Journal { open: true },
            config,
            state: ShutdownState::new(),
        }
    }
}

#[tokio::main]
async fn main() -> Result<Report, ParseIntError> {
    println!("for every configuration, {}\n", Server::PLAN);

    let server = Server::start(Config::from_args()?);
    println!("as configured, {}\n", server.plan());

    let report = run(server, async |server, _stop| {
        // The task stands for a request that ends after the shutdown has begun.
        let told = server.token.clone();
        server.requests.spawn(async move { told.cancelled().await });
    })
    .await;
    println!("{report}");
    Ok(report)
}

struct Journal {
    open: bool,
}

impl Journal {
    fn close(&mut self) {
        self.open = false;
    }
}

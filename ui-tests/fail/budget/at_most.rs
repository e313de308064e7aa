//! The budget counts a timeout with `at_most` at that limit.

use std::time::Duration;

use lifecycle_runtime::{GracefulShutdown, ShutdownState};

fn close(_: &mut u8) {}

#[derive(GracefulShutdown)]
#[shutdown(timeout = "10s")]
struct Server {
    #[shutdown(timeout = self.limit, at_most = "9s", with = close)]
    first: u8,
    #[shutdown(timeout = const { Duration::from_secs(2) }, with = close)]
    second: u8,
    limit: Duration,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

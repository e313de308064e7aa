//! The compiler checks timeouts that are constants, as it checks timeouts that are strings.

use std::time::Duration;

use lifecycle_runtime::{GracefulShutdown, ShutdownState};

const LIMIT: Duration = Duration::from_secs(3);

fn close(_: &mut u8) {}

#[derive(GracefulShutdown)]
#[shutdown(timeout = "5s")]
struct Written {
    #[shutdown(with = close, timeout = Duration::from_secs(30))]
    pool: u8,
    #[shutdown(state)]
    state: ShutdownState,
}

#[derive(GracefulShutdown)]
#[shutdown(timeout = Duration::from_millis(5 * 1000))]
struct Named {
    #[shutdown(with = close, timeout = LIMIT)]
    drain: u8,
    #[shutdown(with = close, timeout = LIMIT)]
    pool: u8,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

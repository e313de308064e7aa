//! The error for a too small timeout spells out the sum of the steps' budgets.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};

fn close(_: &mut u8) {}

#[derive(GracefulShutdown)]
#[shutdown(timeout = "30s")]
struct Server {
    #[shutdown(priority = 0, timeout = "20s", with = close)]
    drain: u8,
    #[shutdown(priority = 1, timeout = "3s", with = close)]
    recorder: u8,
    #[shutdown(priority = 1, timeout = "2s", with = close)]
    beside: u8,
    #[shutdown(priority = 2, timeout = "10s", with = close)]
    pool: u8,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

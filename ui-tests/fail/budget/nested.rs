//! The budget of a plan includes the budgets of its fields' plans.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};

fn close(_: &mut u8) {}

#[derive(GracefulShutdown)]
#[shutdown(timeout = "10s")]
struct Server {
    #[shutdown]
    parts: Option<Part>,
    #[shutdown(timeout = "2s", with = close)]
    pool: u8,
    #[shutdown(state)]
    state: ShutdownState,
}

#[derive(GracefulShutdown)]
#[shutdown(part)]
struct Part {
    #[shutdown(timeout = "4s", with = close)]
    first: u8,
    #[shutdown(timeout = "5s", with = close)]
    second: u8,
}

fn main() {}

//! A step's timeout must not be less than the budget of its field's plan.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};

fn close(_: &mut u8) {}

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(timeout = "1s")]
    part: Part,
    #[shutdown(state)]
    state: ShutdownState,
}

#[derive(GracefulShutdown)]
#[shutdown(part)]
struct Part {
    #[shutdown(timeout = "4s", with = close)]
    first: u8,
}

fn main() {}

//! A skipped field takes no other keys.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};

fn close(_: &mut u8) {}

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(skip, priority = 1, with = close)]
    value: u8,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

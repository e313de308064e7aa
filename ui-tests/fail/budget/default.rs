//! An owner without a timeout has 25 s.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};

fn close(_: &mut u8) {}

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(timeout = "26s", with = close)]
    drain: u8,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

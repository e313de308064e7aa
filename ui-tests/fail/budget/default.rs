//! An owner that declares no timeout has 25 s, and its steps must fit into them.

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

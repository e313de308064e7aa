//! `abort` cannot return a future, since it never waits.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};

fn close(_: &mut u8) {}

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(with = close, abort = later)]
    pool: u8,
    #[shutdown(state)]
    state: ShutdownState,
}

async fn later(_: &mut u8) {}

fn main() {}

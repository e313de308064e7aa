//! A thread of its own borrows nothing.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(with = |pool| *pool = self.config, blocking)]
    pool: Option<u8>,
    config: u8,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

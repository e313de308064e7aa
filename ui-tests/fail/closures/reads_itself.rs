//! A closure gets its own field as its argument.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(with = |_pool| { self.pool = 0 })]
    pool: u8,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

//! The closure has its field already.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(with = |_pool| { self.pool = 0 })]
    pool: u8,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

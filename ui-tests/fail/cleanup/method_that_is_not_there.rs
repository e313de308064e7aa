//! The method of a closure.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(with = |pool| pool.close())]
    pool: Pool,
    #[shutdown(state)]
    state: ShutdownState,
}

struct Pool;

fn main() {}

//! A closure that calls a method which does not exist gets the compiler's own error.

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

//! A step whose type nothing says how to clean.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown]
    pool: Pool,
    #[shutdown(state)]
    state: ShutdownState,
}

struct Pool;

fn main() {}

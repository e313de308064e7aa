//! The type of a step must be a component.

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

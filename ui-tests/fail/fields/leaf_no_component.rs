//! A leaf is a component too: `leaf` hides only its plan.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};

struct Cache;

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(leaf)]
    cache: Cache,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

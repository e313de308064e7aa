//! `leaf` hides the plan of a component, so it needs a component too.

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

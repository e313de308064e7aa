//! An owner has a single state field.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(state)]
    first: ShutdownState,
    #[shutdown(state)]
    second: ShutdownState,
}

fn main() {}

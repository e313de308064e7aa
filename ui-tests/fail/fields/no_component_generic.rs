//! A type parameter of a step needs the bound `Component` on the struct.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};

#[derive(GracefulShutdown)]
struct Server<T: Send> {
    #[shutdown]
    inner: T,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

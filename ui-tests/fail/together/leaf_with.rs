//! A step with `with` has no plan that `leaf` could hide.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};

fn close(_: &mut u8) {}

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(leaf, with = close)]
    value: u8,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

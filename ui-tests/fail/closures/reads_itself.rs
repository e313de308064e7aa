//! A closure cannot read its own field through `self`, since it gets that field as its argument.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(with = |_pool| { self.pool = 0 })]
    pool: u8,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

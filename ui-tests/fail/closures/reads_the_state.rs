//! A closure cannot read the state field.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(with = |_pool| drop(&self.state))]
    pool: u8,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

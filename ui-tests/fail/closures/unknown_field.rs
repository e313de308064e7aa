//! A closure cannot read a field that does not exist.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(with = |_pool| drop(self.confg))]
    pool: u8,
    config: u8,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

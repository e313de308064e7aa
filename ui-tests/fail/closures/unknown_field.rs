//! A field that is not there.

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

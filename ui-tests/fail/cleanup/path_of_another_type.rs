//! The function takes something else.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(with = String::clear)]
    pool: Vec<u8>,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

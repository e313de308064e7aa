//! A cleanup function for another type than the field's gets the compiler's own error.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(with = String::clear)]
    pool: Vec<u8>,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

//! A step without a place among steps that have one.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(priority = 0)]
    token: CancellationToken,
    #[shutdown]
    cache: CancellationToken,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

//! A duration cannot be negative.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(timeout = "-5s")]
    token: CancellationToken,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

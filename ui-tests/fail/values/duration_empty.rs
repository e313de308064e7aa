//! A duration cannot be empty.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(timeout = "")]
    token: CancellationToken,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

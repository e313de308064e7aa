//! A step with neither `priority` nor `after` is an error beside steps that have priorities.

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

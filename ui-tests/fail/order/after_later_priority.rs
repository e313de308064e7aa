//! A step cannot wait, by `after`, for a step with a higher priority.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(priority = 10, after = pool)]
    recorder: CancellationToken,
    #[shutdown(priority = 20)]
    pool: CancellationToken,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

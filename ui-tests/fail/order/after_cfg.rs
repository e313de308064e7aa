//! `after` cannot name a field that `#[cfg(…)]` removes.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
struct Server {
    #[cfg(any())]
    #[shutdown(priority = 0)]
    metrics: CancellationToken,
    #[shutdown(after = metrics)]
    pool: CancellationToken,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

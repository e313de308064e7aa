//! A `ShutdownState` needs `#[shutdown(state)]`.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown]
    token: CancellationToken,
    state: ShutdownState,
}

fn main() {}

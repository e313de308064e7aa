//! The state field takes no other keys.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown]
    token: CancellationToken,
    #[shutdown(state, timeout = "1s")]
    state: ShutdownState,
}

fn main() {}

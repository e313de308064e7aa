//! If an item has the same key twice, the second is an error, also in another attribute.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
#[shutdown(timeout = "25s", timeout = "30s")]
struct Server {
    #[shutdown(priority = 1, timeout = "1s", priority = 2)]
    #[shutdown(timeout = "2s")]
    token: CancellationToken,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

//! A limit for a timeout that is known, or not there.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(at_most = "1s")]
    a: CancellationToken,
    #[shutdown(timeout = "1s", at_most = "2s")]
    b: CancellationToken,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

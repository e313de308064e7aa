//! `at_most` needs a timeout that is computed at run time.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio_util::sync::CancellationToken;

const LIMIT: std::time::Duration = std::time::Duration::from_secs(1);

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(at_most = "1s")]
    a: CancellationToken,
    #[shutdown(timeout = "1s", at_most = "2s")]
    b: CancellationToken,
    #[shutdown(timeout = LIMIT, at_most = "2s")]
    c: CancellationToken,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

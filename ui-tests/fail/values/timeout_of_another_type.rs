//! The expression of a timeout must be a `Duration`.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(timeout = self.seconds)]
    token: CancellationToken,
    seconds: u64,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

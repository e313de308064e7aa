//! A step cannot wait for itself.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(after = pool)]
    pool: CancellationToken,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

//! The error for a cycle of `after` names all fields of the cycle.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(after = recorder)]
    pool: CancellationToken,
    #[shutdown(after = metrics)]
    recorder: CancellationToken,
    #[shutdown(after = pool)]
    metrics: CancellationToken,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

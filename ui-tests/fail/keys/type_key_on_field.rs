//! The error for a key of types on a field says where the key belongs.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(strict)]
    token: CancellationToken,
    #[shutdown(crate = lifecycle_runtime)]
    other: CancellationToken,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

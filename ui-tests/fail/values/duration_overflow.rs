//! A duration cannot be longer than a year.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(timeout = "99999999999999999999s")]
    token: CancellationToken,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

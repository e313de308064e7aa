//! Under `strict` every field needs `#[shutdown]`.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
#[shutdown(strict)]
struct Server {
    #[shutdown]
    token: CancellationToken,
    config: String,
    name: String,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

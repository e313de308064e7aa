//! The state field must be a `ShutdownState`.

use lifecycle_runtime::GracefulShutdown;
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown]
    token: CancellationToken,
    #[shutdown(state)]
    state: u8,
}

fn main() {}

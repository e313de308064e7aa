//! The derive writes `Drop` for owners, so the user cannot.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown]
    token: CancellationToken,
    #[shutdown(state)]
    state: ShutdownState,
}

impl Drop for Server {
    fn drop(&mut self) {}
}

fn main() {}

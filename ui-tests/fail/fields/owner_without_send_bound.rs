//! The generated `Drop` of an owner needs the bound `Send` on the struct.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
struct Server<T> {
    #[shutdown]
    token: CancellationToken,
    value: Option<T>,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

//! The attribute `#[shutdown]` takes its keys in parentheses; other forms are an error.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown = "5s"]
    token: CancellationToken,
    #[shutdown[priority = 1]]
    other: CancellationToken,
    #[shutdown("5s")]
    third: CancellationToken,
    #[shutdown(10)]
    fourth: CancellationToken,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

//! The error for a word of another tool names the key that means the same here.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(ignore)]
    token: CancellationToken,
    #[shutdown(deadline = "5s")]
    other: CancellationToken,
    #[shutdown(before = token)]
    third: CancellationToken,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

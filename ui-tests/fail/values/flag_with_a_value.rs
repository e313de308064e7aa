//! A key that is a flag takes no value.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(best_effort = true)]
    token: CancellationToken,
    #[shutdown(skip(yes))]
    other: CancellationToken,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

//! The error for an unknown name in `after` names the most similar field.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(priority = 0)]
    recorder: CancellationToken,
    #[shutdown(after = recoder)]
    pool: CancellationToken,
    #[shutdown(after = gone)]
    metrics: CancellationToken,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

//! A part has no state field.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
#[shutdown(part)]
struct Part {
    #[shutdown]
    token: CancellationToken,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

//! A field cannot be both skipped and the state.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown]
    token: CancellationToken,
    #[shutdown(state, skip)]
    state: ShutdownState,
}

fn main() {}

//! A field whose type is a component needs `#[shutdown]`.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown]
    token: CancellationToken,
    background: JoinHandle<()>,
    config: String,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

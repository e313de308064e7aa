//! `name` takes a string, and `crate` a path.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
#[shutdown(name = server, crate = "lifecycle_runtime")]
struct Server {
    #[shutdown]
    token: CancellationToken,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

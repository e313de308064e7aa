//! `crate` takes a plain path.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
#[shutdown(crate = lifecycle_runtime::<u8>, name = "")]
struct Server {
    #[shutdown]
    token: CancellationToken,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

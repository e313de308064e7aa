//! `timeout` takes a duration.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(timeout = 25)]
    integer: CancellationToken,
    #[shutdown(timeout = 1.5)]
    float: CancellationToken,
    #[shutdown(timeout = -5)]
    negative: CancellationToken,
    #[shutdown(timeout)]
    nothing: CancellationToken,
    #[shutdown(timeout("5s"))]
    list: CancellationToken,
    #[shutdown(timeout = )]
    missing: CancellationToken,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

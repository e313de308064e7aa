//! `after` must not name the same field twice.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(priority = 0)]
    a: CancellationToken,
    #[shutdown(after(a, a))]
    b: CancellationToken,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

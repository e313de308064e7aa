//! `priority` takes an `i32`.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(priority = 2147483648)]
    large: CancellationToken,
    #[shutdown(priority = -99999999999999999999999)]
    small: CancellationToken,
    #[shutdown(priority = 1u8)]
    suffixed: CancellationToken,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

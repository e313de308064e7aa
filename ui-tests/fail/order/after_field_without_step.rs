//! `after` cannot name a skipped field, the state or a plain field.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(skip)]
    skipped: CancellationToken,
    plain: u8,
    #[shutdown(after = skipped)]
    a: CancellationToken,
    #[shutdown(after = state)]
    b: CancellationToken,
    #[shutdown(after = plain)]
    c: CancellationToken,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

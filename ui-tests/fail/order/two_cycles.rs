//! Each cycle of `after` is reported as one error.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(after = b)]
    a: CancellationToken,
    #[shutdown(after = a)]
    b: CancellationToken,
    #[shutdown(after(b, d))]
    c: CancellationToken,
    #[shutdown(after = c)]
    d: CancellationToken,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

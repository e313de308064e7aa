//! `after` takes the names of fields.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(priority = 0)]
    first: CancellationToken,
    #[shutdown(after = "first")]
    text: CancellationToken,
    #[shutdown(after = self.first)]
    this: CancellationToken,
    #[shutdown(after = (first, text))]
    tuple: CancellationToken,
    #[shutdown(after)]
    nothing: CancellationToken,
    #[shutdown(after())]
    empty: CancellationToken,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

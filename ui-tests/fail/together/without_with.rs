//! The keys `take`, `abort` and `blocking` need the key `with`.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(take)]
    a: Option<CancellationToken>,
    #[shutdown(blocking)]
    b: CancellationToken,
    #[shutdown(abort = drop)]
    c: CancellationToken,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

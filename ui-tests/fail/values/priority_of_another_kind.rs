//! `priority` takes an integer literal.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(priority = "10")]
    text: CancellationToken,
    #[shutdown(priority = 1.5)]
    float: CancellationToken,
    #[shutdown(priority = FIRST)]
    constant: CancellationToken,
    #[shutdown(priority)]
    nothing: CancellationToken,
    #[shutdown(priority = 1 + 1)]
    sum: CancellationToken,
    #[shutdown(state)]
    state: ShutdownState,
}

const FIRST: i32 = 1;

fn main() {}

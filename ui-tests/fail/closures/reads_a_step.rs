//! A closure cannot read the field of another step.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(priority = 1)]
    recorder: CancellationToken,
    #[shutdown(priority = 2, with = |pool| { self.recorder.cancel(); *pool = 0 })]
    pool: u8,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

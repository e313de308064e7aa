//! `at_most` must be a constant.

use std::time::Duration;

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(timeout = self.limit, at_most = self.limit)]
    token: CancellationToken,
    limit: Duration,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

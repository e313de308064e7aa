//! A shutdown that is not awaited is a lint.
#![deny(warnings)]

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown]
    token: CancellationToken,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {
    let mut server = Server { token: CancellationToken::new(), state: ShutdownState::new() };
    server.shutdown();
}

//! An owner cannot be shared in an `Arc`; handlers share its parts.

use std::sync::Arc;

use lifecycle_runtime::{GracefulShutdown, ShutdownState, run_until_signal};

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(state)]
    state: ShutdownState,
}

#[derive(GracefulShutdown)]
struct Outer {
    #[shutdown]
    server: Arc<Server>,
    #[shutdown(state)]
    state: ShutdownState,
}

async fn runs(server: Arc<Server>) {
    run_until_signal(server).await;
}

fn main() {}

//! An enum has no state field.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
enum Either {
    Live(#[shutdown] CancellationToken, #[shutdown(state)] ShutdownState),
}

fn main() {}

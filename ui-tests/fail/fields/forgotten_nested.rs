//! A component deep inside a type needs `#[shutdown]`.

use std::sync::Arc;
use std::sync::Mutex;

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown]
    token: CancellationToken,
    tasks: Option<Arc<Mutex<Vec<JoinHandle<()>>>>>,
    other: Box<CancellationToken>,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

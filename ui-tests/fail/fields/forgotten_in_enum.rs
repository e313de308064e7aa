//! A component in a variant needs `#[shutdown]`.

use lifecycle_runtime::GracefulShutdown;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
enum Either {
    Live {
        token: CancellationToken,
    },
    Task(JoinHandle<()>),
}

fn main() {}

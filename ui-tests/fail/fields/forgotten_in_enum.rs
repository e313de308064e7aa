//! A field of a variant whose type is a component needs `#[shutdown]`.

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

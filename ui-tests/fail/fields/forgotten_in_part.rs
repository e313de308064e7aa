//! A field of a part or a tuple struct whose type is a component needs `#[shutdown]`.

use lifecycle_runtime::GracefulShutdown;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
#[shutdown(part)]
struct Part(CancellationToken, #[shutdown] JoinHandle<()>);

fn main() {}

//! Also a tuple struct.

use lifecycle_runtime::GracefulShutdown;
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
struct Server(#[shutdown] CancellationToken);

fn main() {}

//! A part has no `Drop`, so `no_drop` has no effect on it.

use lifecycle_runtime::GracefulShutdown;
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
#[shutdown(part, no_drop)]
struct Part(#[shutdown] CancellationToken);

fn main() {}

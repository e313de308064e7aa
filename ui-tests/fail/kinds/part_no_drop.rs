//! A part has no Drop to leave away.

use lifecycle_runtime::GracefulShutdown;
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
#[shutdown(part, no_drop)]
struct Part(#[shutdown] CancellationToken);

fn main() {}

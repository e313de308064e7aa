//! An enum is a part, and takes no keys of owners.

use lifecycle_runtime::GracefulShutdown;
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
#[shutdown(timeout = "5s", at_most = "6s", no_drop)]
enum Either {
    Live(#[shutdown] CancellationToken),
}

fn main() {}

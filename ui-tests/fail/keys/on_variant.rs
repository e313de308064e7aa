//! `#[shutdown]` does not apply to a variant.

use lifecycle_runtime::GracefulShutdown;
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
enum Either {
    #[shutdown(priority = 1)]
    Live(#[shutdown] CancellationToken),
    Gone,
}

fn main() {}

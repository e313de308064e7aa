//! A variant is cleaned field by field.

use lifecycle_runtime::GracefulShutdown;
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
enum Either {
    #[shutdown(priority = 1)]
    Live(#[shutdown] CancellationToken),
    Gone,
}

fn main() {}

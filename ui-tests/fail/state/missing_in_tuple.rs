//! A tuple struct that is an owner needs a state field.

use lifecycle_runtime::GracefulShutdown;
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
struct Server(#[shutdown] CancellationToken);

fn main() {}

//! `after` names the fields of tuple structs by number.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
struct Server(#[shutdown(after = 1)] CancellationToken, #[shutdown(after = 0)] CancellationToken, #[shutdown(after = 7)] CancellationToken, #[shutdown(state)] ShutdownState);

fn main() {}

//! A `strict` struct compiles if every field has `#[shutdown]`. A field may also have several of these attributes.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};

fn close(_: &mut u8) {}

#[derive(GracefulShutdown)]
#[shutdown(strict)]
#[shutdown(timeout = "10s")]
struct Server {
    #[shutdown(priority = 0)]
    #[shutdown(timeout = "1s")]
    #[shutdown(with = close)]
    value: u8,
    #[shutdown(skip)]
    config: String,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

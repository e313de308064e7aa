//! A cleanup may return only `()`, a `Report` or a `Result`; another type is an error.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(with = count)]
    path: u8,
    #[shutdown(with = |value| *value + 1)]
    closure: u8,
    #[shutdown(with = later)]
    future: u8,
    #[shutdown(state)]
    state: ShutdownState,
}

fn count(_: &mut u8) -> usize {
    0
}

async fn later(_: &mut u8) -> Option<u8> {
    None
}

fn main() {}

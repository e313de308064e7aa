//! The error of a cleanup must convert into `BoxError`.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(with = close)]
    pool: u8,
    #[shutdown(state)]
    state: ShutdownState,
}

struct Oops;

fn close(_: &mut u8) -> Result<(), Oops> {
    Err(Oops)
}

fn main() {}

//! A call on the blocking pool cannot borrow a field, so the field must be taken or shared.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};

fn close(_: &mut u8) {}

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(with = close, blocking)]
    pool: u8,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

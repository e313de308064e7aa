//! `with` takes a function or a closure.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};

fn close(_: &mut u8) {}

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(with = "close")]
    text: u8,
    #[shutdown(with = close())]
    call: u8,
    #[shutdown(with = value.close())]
    method: u8,
    #[shutdown(with = 5)]
    number: u8,
    #[shutdown(with)]
    nothing: u8,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

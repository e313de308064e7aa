//! The closure of each key must take a certain number of arguments.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};

fn close(_: &mut u8) {}

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(with = || ())]
    none: u8,
    #[shutdown(with = |a, b, c| ())]
    three: u8,
    #[shutdown(with = close, abort = |a, b| ())]
    abort: u8,
    #[shutdown(with = |a, cx| (), blocking)]
    blocking: Option<u8>,
    #[shutdown(with = close, abort = async |a| ())]
    asynchronous: u8,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

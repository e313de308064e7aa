//! A `blocking` closure runs on another thread and cannot borrow from `self`.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(with = |pool| *pool = self.config, blocking)]
    pool: Option<u8>,
    config: u8,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

//! A closure cannot use all of `self`.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(with = |_pool| self.stop())]
    pool: u8,
    #[shutdown(with = |_other| Self::stop(self))]
    other: u8,
    #[shutdown(state)]
    state: ShutdownState,
}

impl Server {
    fn stop(&self) {}
}

fn main() {}

//! `take` needs an `Option`.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(take, with = drop)]
    value: String,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

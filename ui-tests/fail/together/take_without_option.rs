//! The key `take` needs a field of type `Option`.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(take, with = drop)]
    value: String,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

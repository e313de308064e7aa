//! Every field of a component must be `Send`.

use std::rc::Rc;

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown]
    token: CancellationToken,
    shared: Rc<u8>,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

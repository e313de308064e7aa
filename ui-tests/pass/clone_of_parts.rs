//! Handlers hold cheap clones of an owner's parts. Dropping a clone changes nothing.

use std::sync::Arc;

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio_util::sync::CancellationToken;

struct Pool;

impl Pool {
    async fn close(&self) {}
}

#[derive(Clone)]
struct Handler {
    token: CancellationToken,
    pool: Arc<Pool>,
}

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown]
    token: CancellationToken,
    #[shutdown(with = Pool::close)]
    pool: Arc<Pool>,
    #[shutdown(state)]
    state: ShutdownState,
}

impl Server {
    fn handler(&self) -> Handler {
        Handler { token: self.token.clone(), pool: Arc::clone(&self.pool) }
    }
}

fn main() {
    let mut server =
        Server { token: CancellationToken::new(), pool: Arc::new(Pool), state: ShutdownState::new() };
    drop(server.handler().clone());
    assert!(!server.token.is_cancelled());
    server.state.disarm();
}

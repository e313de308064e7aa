//! The value in a shared lock needs a `Default`, which takes the value's place during the cleanup.

use std::sync::Arc;

use lifecycle_runtime::{BoxError, Component, Context, GracefulShutdown, ShutdownState};
use tokio::sync::Mutex;

struct Db;

impl Component for Db {
    async fn cleanup(&mut self, _: &Context) -> Result<(), BoxError> {
        Ok(())
    }
}

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown]
    db: Arc<Mutex<Db>>,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

//! Under `strict` a forgotten field of any type is an error.

use lifecycle_runtime::{BoxError, Component, Context, GracefulShutdown, ShutdownState};

pub struct Client;

impl Component for Client {
    async fn cleanup(&mut self, _: &Context) -> Result<(), BoxError> {
        Ok(())
    }
}

#[derive(GracefulShutdown)]
#[shutdown(strict)]
struct Server {
    #[shutdown]
    first: Client,
    second: Client,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

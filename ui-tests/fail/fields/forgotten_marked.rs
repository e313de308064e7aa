//! Fields with owners, parts, the library's own components, or types that `MustClean` marks need `#[shutdown]`.

use std::sync::Arc;

use lifecycle_runtime::{
    BoxError, Component, Context, GracefulShutdown, MustClean, ShutdownState, TaskGroup,
};

pub struct Client;

impl Component for Client {
    async fn cleanup(&mut self, _: &Context) -> Result<(), BoxError> {
        Ok(())
    }
}

impl MustClean for Client {}

#[derive(GracefulShutdown)]
struct Inner {
    #[shutdown(state)]
    state: ShutdownState,
}

#[derive(GracefulShutdown)]
#[shutdown(part)]
struct Part;

#[derive(GracefulShutdown)]
struct Server {
    client: Client,
    inner: Inner,
    parts: Vec<Part>,
    tasks: Arc<TaskGroup>,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}

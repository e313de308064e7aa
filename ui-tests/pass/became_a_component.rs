//! A field still compiles, with a warning, after its type has become a component.

use lifecycle_runtime::{BoxError, Component, Context, GracefulShutdown, ShutdownState};

mod client {
    use super::*;

    #[derive(Default)]
    pub struct Client;

    impl Component for Client {
        async fn cleanup(&mut self, _: &Context) -> Result<(), BoxError> {
            Err("never cleaned: no field says that it is a step".into())
        }
    }
}

#[derive(GracefulShutdown, Default)]
struct Server {
    client: client::Client,
    clients: Vec<client::Client>,
    #[shutdown(state)]
    state: ShutdownState,
}

/// A server that silences the warning with the key `skip`, as the warning advises.
#[derive(GracefulShutdown, Default)]
struct Silent {
    #[shutdown(skip)]
    client: client::Client,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {
    for plan in [Server::PLAN, Silent::PLAN] {
        assert!(plan.steps().is_empty());
    }
    let (mut server, mut silent) = (Server::default(), Silent::default());
    server.state.disarm();
    silent.state.disarm();
    server.clients.clear();
    let _ = (&server.client, &silent.client);
}

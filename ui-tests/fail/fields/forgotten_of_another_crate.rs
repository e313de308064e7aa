//! A forgotten field of a type from another crate is a warning, since the type may have become a component later. It is
//! an error only where warnings are.
#![deny(warnings)]
#![allow(dead_code)]

use lifecycle_runtime::{BoxError, Component, Context, GracefulShutdown, ShutdownState};

pub struct Client;

impl Component for Client {
    async fn cleanup(&mut self, _: &Context) -> Result<(), BoxError> {
        Ok(())
    }
}

pub struct Generic<T>(T);

impl<T: Send> Component for Generic<T> {
    async fn cleanup(&mut self, _: &Context) -> Result<(), BoxError> {
        Ok(())
    }
}

#[derive(GracefulShutdown)]
struct Server<T: Send> {
    #[shutdown]
    first: Client,
    second: Client,
    list: Vec<Option<Client>>,
    generic: Generic<T>,
    text: String,
    plain: T,
    #[shutdown(state)]
    state: ShutdownState,
}

#[derive(GracefulShutdown)]
enum Either {
    Left(Client),
    Right { right: (Client, Client) },
}

fn main() {}

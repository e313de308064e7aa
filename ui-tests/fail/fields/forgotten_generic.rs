//! A field whose type is a parameter with the bound `Component` needs `#[shutdown]`.

use lifecycle_runtime::{Component, GracefulShutdown, ShutdownState};
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
struct Server<T: Component> {
    #[shutdown]
    token: CancellationToken,
    inner: T,
    list: Vec<Option<T>>,
    #[shutdown(state)]
    state: ShutdownState,
}

#[derive(GracefulShutdown)]
#[shutdown(part)]
struct Tuple<'a, T: Component>(#[shutdown] CancellationToken, &'a str, Vec<T>);

fn main() {}

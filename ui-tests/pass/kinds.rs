//! The derive takes every kind of type: named, tuple and unit structs, enums, owners and parts.

use std::sync::Arc;

use lifecycle_runtime::{Component, GracefulShutdown, ShutdownState};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
#[shutdown(timeout = "1m 30s")]
struct Named {
    #[shutdown(priority = 0)]
    token: CancellationToken,
    #[shutdown(priority = 10, timeout = "2s", best_effort)]
    task: JoinHandle<()>,
    #[shutdown(after = task, timeout = "250ms", required)]
    tasks: Vec<JoinHandle<()>>,
    #[shutdown(after(task, tasks))]
    parts: Parts,
    #[shutdown(priority = 20)]
    either: Either,
    config: Arc<String>,
    #[shutdown(skip)]
    other: CancellationToken,
    #[shutdown(state)]
    state: ShutdownState,
}

#[derive(GracefulShutdown)]
struct Tuple(#[shutdown] CancellationToken, u8, #[shutdown] Unit, #[shutdown(state)] ShutdownState);

#[derive(GracefulShutdown)]
#[shutdown(part, timeout = "30s", name = "the parts")]
struct Parts {
    #[shutdown]
    first: CancellationToken,
    #[shutdown]
    second: Option<Box<Tuple>>,
}

#[derive(GracefulShutdown)]
#[shutdown(part)]
struct Unit;

#[derive(GracefulShutdown)]
enum Either {
    Token {
        #[shutdown]
        token: CancellationToken,
        name: String,
    },
    Tasks(#[shutdown(priority = 1)] JoinHandle<()>, #[shutdown(after = 0)] JoinHandle<()>),
    Nothing,
}

#[derive(GracefulShutdown)]
enum Never {}

#[derive(GracefulShutdown)]
#[shutdown(part)]
enum Plain {
    A,
    B(u8),
}

#[derive(GracefulShutdown)]
#[shutdown(no_drop)]
struct Movable {
    #[shutdown]
    token: CancellationToken,
    name: String,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {
    assert_eq!(Named::PLAN.steps().len(), 5);
    assert_eq!(Tuple::PLAN.steps().len(), 2);
    assert_eq!(Unit::PLAN.steps().len(), 0);
    assert_eq!(Either::PLAN.steps().len(), 3);
    assert_eq!(Parts::PLAN.name(), "the parts");
    let movable = Movable { token: CancellationToken::new(), name: String::new(), state: ShutdownState::new() };
    let Movable { token, name, mut state } = movable;
    state.disarm();
    drop((token, name));
    let _ = (Plain::A, Plain::B(1));
    let _: Option<Never> = None;
}

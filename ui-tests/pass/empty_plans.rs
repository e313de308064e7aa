//! The derive also takes types without steps.
#![allow(dead_code)]

use lifecycle_runtime::{Component, GracefulShutdown, ShutdownState};

#[derive(GracefulShutdown, Default)]
struct Owner {
    #[shutdown(state)]
    state: ShutdownState,
}

#[derive(GracefulShutdown)]
#[shutdown(part)]
struct Empty {}

#[derive(GracefulShutdown)]
#[shutdown(part)]
struct Tuple();

#[derive(GracefulShutdown)]
enum Never {}

#[derive(GracefulShutdown)]
enum Units {
    A,
    B,
    C {},
    D(),
}

#[derive(GracefulShutdown)]
#[shutdown(part)]
struct Holds {
    #[shutdown]
    units: Units,
    #[shutdown]
    never: Option<Never>,
}

fn main() {
    assert!(Owner::PLAN.steps().is_empty());
    Owner::default().release();
    Holds { units: Units::C {}, never: None }.abort();
}

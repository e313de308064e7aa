//! The compiler can compare a plan's budget with a deployment's grace period.

use std::time::Duration;

use lifecycle_runtime::{Component, GracefulShutdown, ShutdownState};

fn close(_: &mut u8) {}

#[derive(GracefulShutdown)]
#[shutdown(timeout = "20s")]
struct Server {
    #[shutdown(with = close, timeout = "15s")]
    drain: u8,
    #[shutdown]
    part: Part,
    #[shutdown(state)]
    state: ShutdownState,
}

#[derive(GracefulShutdown)]
#[shutdown(part)]
struct Part {
    #[shutdown(with = close, timeout = "3s")]
    first: u8,
    #[shutdown(with = close, timeout = "2s")]
    second: u8,
}

const GRACE: Duration = Duration::from_secs(30);
const BUDGET: Duration = match Server::PLAN.budget() {
    Some(budget) => budget,
    None => panic!("an owner has a budget"),
};
const _: () = assert!(BUDGET.as_secs() + 5 <= GRACE.as_secs());

fn main() {
    assert_eq!(Part::PLAN.budget(), Some(Duration::from_secs(5)));
}

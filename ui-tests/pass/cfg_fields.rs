//! Fields may be behind `#[cfg(…)]`.
#![allow(unexpected_cfgs)]

use lifecycle_runtime::{Component, GracefulShutdown, ShutdownState};

fn close(_: &mut u8) {}

#[derive(GracefulShutdown)]
struct Server {
    #[cfg(feature = "gone")]
    #[shutdown(priority = 0, with = close)]
    gone: u8,
    #[cfg(not(feature = "gone"))]
    #[shutdown(priority = 0, with = close)]
    there: u8,
    #[cfg_attr(feature = "gone", shutdown(after = gone, with = close))]
    #[cfg_attr(not(feature = "gone"), shutdown(after = there, with = close))]
    last: u8,
    #[cfg_attr(all(), shutdown(skip))]
    other: u8,
    #[shutdown(state)]
    state: ShutdownState,
}

#[derive(GracefulShutdown)]
enum Either {
    #[cfg(feature = "gone")]
    Gone(#[shutdown] Unknown),
    There(#[shutdown(with = close)] u8),
}

fn main() {
    assert_eq!(Server::PLAN.steps().len(), 2);
    assert!(Server::PLAN.steps()[1].after().eq([0]));
    assert_eq!(Either::PLAN.steps().len(), 1);
}

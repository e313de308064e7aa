//! Owners and parts for several tests, and a context to clean a component without an owner.

use std::time::Duration;

use lifecycle_runtime::{Component, Context, GracefulShutdown, Reason, ShutdownState};
use tokio_test::{assert_pending, task::spawn};

use crate::Probe;

/// An owner of one component, with a timeout of 10 s.
#[derive(Debug, GracefulShutdown)]
#[shutdown(timeout = "10s")]
pub struct Owner<T: Component> {
    #[shutdown]
    pub field: T,
    #[shutdown(state)]
    pub state: ShutdownState,
}

impl<T: Component> Owner<T> {
    pub fn new(field: T) -> Self {
        let state = ShutdownState::new();
        Self { field, state }
    }

    /// Polls the shutdown once and drops its future. The shutdown must not have ended by then.
    pub fn interrupt(&mut self) {
        assert_pending!(spawn(self.shutdown()).poll());
    }
}

/// An owner whose plan leaves out the plan of its component, with a timeout of 60 s.
#[derive(Debug, GracefulShutdown)]
#[shutdown(timeout = "60s")]
pub struct LeafOwner<T: Component> {
    #[shutdown(leaf)]
    pub field: T,
    #[shutdown(state)]
    pub state: ShutdownState,
}

impl<T: Component> LeafOwner<T> {
    pub fn new(field: T) -> Self {
        let state = ShutdownState::new();
        Self { field, state }
    }

    /// Polls the shutdown once and drops its future. The shutdown must not have ended by then.
    pub fn interrupt(&mut self) {
        assert_pending!(spawn(self.shutdown()).poll());
    }
}

/// A part whose plan leaves out the plan of its component.
#[derive(Debug, GracefulShutdown)]
#[shutdown(part)]
pub struct LeafPart<T: Component> {
    #[shutdown(leaf)]
    pub it: T,
}

impl<T: Component> LeafPart<T> {
    pub fn new(it: T) -> Self {
        Self { it }
    }
}

/// A part with one probe. The probe's step has a timeout of 3 s.
#[derive(Debug, GracefulShutdown)]
#[shutdown(part)]
pub struct TimedPart {
    #[shutdown(timeout = "3s")]
    pub probe: Probe,
}

/// A part with two probes. The disk is cleaned after the writer.
#[derive(Debug, GracefulShutdown)]
#[shutdown(part)]
pub struct Storage {
    #[shutdown(priority = 0)]
    pub writer: Probe,
    #[shutdown(priority = 1)]
    pub disk: Probe,
}

/// A part like [`Storage`], in which each probe has a timeout of 1 s.
#[derive(Debug, GracefulShutdown)]
#[shutdown(part)]
pub struct TimedStorage {
    #[shutdown(priority = 0, timeout = "1s")]
    pub writer: Probe,
    #[shutdown(priority = 1, timeout = "1s")]
    pub disk: Probe,
}

/// Returns a context outside any plan, with 10 s to the hard deadline and 9 s to the soft one.
pub fn context() -> Context {
    Context::new(Reason::Requested, Duration::from_secs(10))
}

//! The failure of a request: a fault, and the upstream at which it happened.

use crate::message::fault::Fault;

/// A fault, and the upstream at which it happened.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) fault: Fault,
    pub(super) upstream: Option<String>,
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self {
            fault,
            upstream: None,
        }
    }
}

impl Failure {
    pub(super) fn of(fault: Fault, upstream: &impl ToString) -> Self {
        Self {
            fault,
            upstream: Some(upstream.to_string()),
        }
    }
}

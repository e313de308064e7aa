//! Passes a request on and its response back.

pub mod exchange;
pub mod forward;

//! Passes a request on and its response back.

pub mod content;
pub mod exchange;
pub mod forward;

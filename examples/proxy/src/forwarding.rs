//! Passes a request on to its target, and the response back to the client.

pub mod content;
pub mod forward;

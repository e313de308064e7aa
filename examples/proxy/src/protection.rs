//! Protects the process and its upstreams from more than they can bear.

pub mod breaker;
pub mod buffers;
pub mod descriptors;
pub mod load;

//! Protection of the process and its upstreams against overload.

pub mod breaker;
pub mod buffers;
pub mod descriptors;
pub mod load;

//! Programs that answer requests by lines on their standard streams, and the
//! sessions in which they do.

pub mod sessions;
pub mod stdio;

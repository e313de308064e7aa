//! Programs that answer requests by lines on their standard streams, and the sessions of their
//! clients.

pub mod stdio;

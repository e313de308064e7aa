//! Decides where a request goes.

pub mod routes;
pub mod sticky;

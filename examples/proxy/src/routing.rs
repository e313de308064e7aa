//! Decides where a request goes.

pub mod group;
pub mod routes;
pub mod sticky;

//! Decides which upstream, program or feed answers a request.

pub mod group;
pub mod routes;
pub mod sticky;

//! Runs one application behind two servers, and clients that show how the servers differ.

pub mod app;
pub mod cases;
pub mod load;
pub mod server;
pub mod subject;

//! Runs one application behind axum's own server and behind `HttpServer`, with clients that show how the servers
//! differ.

pub mod app;
pub mod cases;
pub mod load;
pub mod server;
pub mod subject;

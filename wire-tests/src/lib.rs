//! The same application behind two servers, and the clients that tell them apart.

pub mod app;
pub mod cases;
pub mod load;
pub mod server;
pub mod subject;

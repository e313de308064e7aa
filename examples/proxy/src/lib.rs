//! A reverse proxy whose shutdown is declared on the fields of its server
//! struct, [`app::ProxyServer`]. `src/main.rs` is the program; the README says
//! how to use it.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod activity;
pub mod app;
pub mod body;
pub mod cli;
pub mod config;
pub mod connection;
pub mod connections;
pub mod console;
pub mod descriptors;
pub mod embedded;
pub mod exchange;
pub mod fault;
pub mod forward;
pub mod headers;
pub mod listener;
pub mod logging;
pub mod metrics;
pub mod metrics_server;
pub mod recorder;
pub mod request;
pub mod side;
pub mod timestamp;
pub mod upstream;

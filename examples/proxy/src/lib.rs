//! A reverse proxy whose shutdown is declared on the fields of its server
//! struct, [`app::ProxyServer`]. `src/main.rs` is the program; the README says
//! how to use it.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod activity;
pub mod admin;
pub mod app;
pub mod audit;
pub mod body;
pub mod breaker;
pub mod buffers;
pub mod cli;
pub mod config;
pub mod connection;
pub mod connections;
pub mod console;
pub mod descriptors;
pub mod discovery;
pub mod embedded;
pub mod events;
pub mod exchange;
pub mod executor;
pub mod fault;
pub mod feed;
pub mod forward;
pub mod headers;
pub mod health;
pub mod hosts;
pub mod interim;
pub mod kept;
pub mod listener;
pub mod load;
pub mod logging;
pub mod manager;
pub mod memory;
pub mod metrics;
pub mod recorder;
pub mod request;
pub mod response;
pub mod restart;
pub mod room;
pub mod routes;
pub mod sessions;
pub mod side;
pub mod sni;
pub mod sockets;
pub mod stdio;
pub mod sticky;
pub mod timestamp;
pub mod trailers;
pub mod upstream;
pub mod websocket;

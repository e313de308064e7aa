//! A reverse proxy whose shutdown is declared on the fields of its server struct,
//! [`app::ProxyServer`]. The program is `src/main.rs`; the README describes its use.
//!
//! A request passes [`inbound`], [`forwarding`], [`routing`] and [`upstream`]. [`app`] connects the
//! parts. No module uses a module that stands above it in ARCHITECTURE.md.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod admin;
pub mod app;
pub mod buffers;
pub mod cli;
pub mod config;
pub mod console;
pub mod forwarding;
pub mod inbound;
pub mod logging;
pub mod message;
pub mod metrics;
pub mod restart;
pub mod routing;
pub mod streams;
pub mod upstream;

/// The version of the proxy, which the audit trail and the metrics contain.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

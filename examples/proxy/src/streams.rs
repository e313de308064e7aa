//! Streams that outlive a plain exchange: WebSocket, feeds, TLS passthrough.

pub mod feed;
mod last_activity;
pub mod sni;
pub mod websocket;

//! Streams that outlive a plain exchange: WebSocket, feeds, TLS passthrough.

pub mod feed;
mod heard;
pub mod sni;
pub mod websocket;

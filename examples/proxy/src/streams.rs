//! Streams that outlive a plain exchange: WebSocket, server-sent events, feeds, TLS passthrough.

pub mod events;
pub mod feed;
mod heard;
pub mod sni;
pub mod websocket;

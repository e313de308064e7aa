//! Streams that outlive a plain exchange: WebSocket, feeds.

pub mod feed;
pub mod websocket;

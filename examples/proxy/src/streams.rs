//! Connections and streams that last longer than a usual exchange: WebSocket connections and feeds.

pub mod feed;
pub mod websocket;

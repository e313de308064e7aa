//! Streams that have no end of their own: events, WebSocket frames, TLS.

pub mod events;
pub mod feed;
pub mod sni;
pub mod websocket;

//! The clients' side of the proxy: listening sockets, the servers on them, and requests as they
//! arrive.

pub mod body;
pub mod interim;
pub mod link;
pub mod listener;
pub mod server;
pub mod sockets;

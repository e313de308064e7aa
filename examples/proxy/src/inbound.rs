//! The side of the clients: listening sockets, the servers on them, and requests as they arrive.

pub mod body;
pub mod interim;
pub mod link;
pub mod listener;
pub mod server;
pub mod sockets;

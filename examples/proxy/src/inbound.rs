//! The side of the clients: listening sockets, connections and their time limits.

pub mod activity;
pub mod body;
pub mod connection;
pub mod connections;
pub mod interim;
pub mod listener;
pub mod room;
pub mod side_server;
pub mod sockets;

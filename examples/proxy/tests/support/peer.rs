//! A peer of the proxy, which exchanges datagrams with it.

use std::net::{SocketAddr, UdpSocket};
use std::time::Instant;

use serde_json::{Value, json};

use super::PATIENCE;

pub struct Peer {
    socket: UdpSocket,
    pub address: SocketAddr,
}

impl Peer {
    pub fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let address = socket.local_addr().unwrap();
        Self { socket, address }
    }

    /// Returns an address on which nothing listens.
    pub fn unused_address() -> SocketAddr {
        Self::start().address
    }

    /// Returns the next datagram of this kind, and the address of its sender.
    #[track_caller]
    pub fn next(&self, kind: &str) -> (Value, SocketAddr) {
        let mut buffer = [0; 512];
        let end = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < end, "no {kind} within {PATIENCE:?}");
            let (length, from) = self.socket.recv_from(&mut buffer).unwrap();
            let datagram: Value = serde_json::from_slice(&buffer[..length]).unwrap();
            if datagram["kind"] == kind {
                return (datagram, from);
            }
        }
    }

    /// Returns the datagrams that have arrived and that no test has read.
    pub fn rest(&self) -> Vec<Value> {
        self.socket.set_nonblocking(true).unwrap();
        let mut buffer = [0; 512];
        let datagrams = std::iter::from_fn(|| {
            let length = self.socket.recv(&mut buffer).ok()?;
            let datagram: Value = serde_json::from_slice(&buffer[..length]).unwrap();
            Some(datagram["kind"].clone())
        });
        let kinds = datagrams.collect();
        self.socket.set_nonblocking(false).unwrap();
        kinds
    }

    pub fn send(&self, kind: &str, nonce: &Value, to: SocketAddr) {
        let datagram = json!({ "kind": kind, "id": "other", "nonce": nonce });
        self.socket
            .send_to(datagram.to_string().as_bytes(), to)
            .unwrap();
    }

    pub fn send_raw(&self, bytes: &[u8], to: SocketAddr) {
        self.socket.send_to(bytes, to).unwrap();
    }
}

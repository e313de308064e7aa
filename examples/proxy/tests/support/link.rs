//! A listener for multicast DNS on the link of the proxy.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::Instant;

use rustix::net::{AddressFamily, SocketType, bind, socket, sockopt};
use simple_dns::Packet;
use simple_dns::rdata::RData;

use super::PATIENCE;

const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);

/// A socket on the loopback interface, with a port that only one test uses.
pub struct Link {
    socket: UdpSocket,
    pub port: u16,
}

/// An SRV record of a service, with its time to live in seconds.
#[derive(Debug, Eq, PartialEq)]
pub struct SrvRecord {
    pub name: String,
    pub port: u16,
    pub ttl: u32,
}

impl Link {
    pub fn start() -> Self {
        let free = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        let socket = socket(AddressFamily::INET, SocketType::DGRAM, None).unwrap();
        sockopt::set_socket_reuseaddr(&socket, true).unwrap();
        sockopt::set_socket_reuseport(&socket, true).unwrap();
        bind(&socket, &SocketAddrV4::new(GROUP, port)).unwrap();
        let socket = UdpSocket::from(socket);
        socket
            .join_multicast_v4(&GROUP, &Ipv4Addr::LOCALHOST)
            .unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, port }
    }

    /// Returns the next record with a TTL of 0, which is a goodbye.
    #[track_caller]
    pub fn goodbye(&self) -> SrvRecord {
        let end = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < end, "no goodbye within {PATIENCE:?}");
            let record = self.next();
            if record.ttl == 0 {
                return record;
            }
        }
    }

    /// Returns the next record.
    #[track_caller]
    pub fn next(&self) -> SrvRecord {
        let mut buffer = [0; 9000];
        let end = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < end, "no answer within {PATIENCE:?}");
            let length = self.socket.recv(&mut buffer).unwrap();
            if let Some(record) = record(&buffer[..length]) {
                return record;
            }
        }
    }

    /// Returns the records that have arrived and that no test has read.
    pub fn rest(&self) -> Vec<SrvRecord> {
        self.socket.set_nonblocking(true).unwrap();
        let mut buffer = [0; 9000];
        let mut heard = Vec::new();
        while let Ok(length) = self.socket.recv(&mut buffer) {
            heard.extend(record(&buffer[..length]));
        }
        self.socket.set_nonblocking(false).unwrap();
        heard
    }
}

fn record(bytes: &[u8]) -> Option<SrvRecord> {
    let packet = Packet::parse(bytes).unwrap();
    packet
        .answers
        .iter()
        .find_map(|answer| match &answer.rdata {
            RData::SRV(service) => Some(SrvRecord {
                name: answer.name.to_string(),
                port: service.port,
                ttl: answer.ttl,
            }),
            _ => None,
        })
}

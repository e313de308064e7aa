//! An upstream that handles each connection with a closure of the test.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::net::{self, AddressFamily, SocketType};

use super::Client;

/// A listener that passes each connection to a closure, with the connection's number. The listener
/// ends with the process of the test.
pub struct Upstream {
    pub address: SocketAddr,
    pub connections: Arc<AtomicUsize>,
}

impl Upstream {
    pub fn start(serve: impl Fn(usize, &mut Client) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        let serve = Arc::new(serve);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let number = count.fetch_add(1, Ordering::SeqCst);
                let serve = serve.clone();
                std::thread::spawn(move || serve(number, &mut Client::over(stream)));
            }
        });
        Self {
            address,
            connections,
        }
    }

    /// Returns an address that refuses connections. A socket that does not listen keeps its port until the
    /// process of the test ends, since another process could use it otherwise.
    pub fn unused_address() -> SocketAddr {
        let socket = net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        net::bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = net::getsockname(&socket).unwrap().try_into().unwrap();
        std::mem::forget(socket);
        address
    }
}

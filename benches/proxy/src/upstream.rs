//! An upstream that sends the same response to every request, as fast as it can.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

use crate::Result;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A running upstream. Dropping it ends the upstream.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    _runtime: Runtime,
}

impl Upstream {
    pub(crate) fn start() -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_io()
            .build()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream));
            }
        });
        Ok(Self {
            address,
            _runtime: runtime,
        })
    }
}

/// Serves a connection whose requests have no bodies and come one at a time.
async fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = [0; 4096];
    let mut head = Vec::new();
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        head.extend_from_slice(&buffer[..length]);
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
            stream.write_all(ANSWER).await?;
        }
    }
}

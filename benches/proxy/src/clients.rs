//! Many HTTP clients in one process. Each sends one request, keeps its connection open, and waits until the server
//! closes that connection.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, ExitCode, Stdio};
use std::sync::Arc;
use std::{io, io::BufRead as _, io::BufReader};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};

use crate::Result;
use crate::process::{now, raise_open_files, this_as};

pub(crate) const ROLE: &str = "clients";

/// The number of clients that connect at the same time. It is below the backlog of a listening socket, so that the
/// kernel drops no connection.
const AT_ONCE: usize = 200;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: bench.example\r\n\r\n";

/// The running process of all clients, and the lines that it prints.
pub(crate) struct Clients {
    child: Child,
    lines: io::Lines<BufReader<ChildStdout>>,
}

impl Clients {
    /// Starts `count` clients, and waits until each of them has received its response.
    pub(crate) fn start(address: SocketAddr, count: usize) -> Result<Self> {
        let mut child = this_as(ROLE)?
            .args([address.to_string(), count.to_string()])
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or("no standard output")?;
        let mut clients = Self {
            child,
            lines: BufReader::new(stdout).lines(),
        };
        match clients.line()?.as_str() {
            "connected" => Ok(clients),
            other => Err(format!("the clients said {other:?}").into()),
        }
    }

    fn line(&mut self) -> Result<String> {
        Ok(self.lines.next().ok_or("the clients have ended")??)
    }

    /// Waits until the server has closed every connection. Returns the number of connections that closed without an
    /// error, and the time at which the last connection closed. The time is in nanoseconds on the clock that all
    /// processes share.
    pub(crate) fn closed(mut self) -> Result<(usize, u64)> {
        let line = self.line()?;
        let (orderly, at) = line.split_once(' ').ok_or("the clients said too little")?;
        Ok((orderly.parse()?, at.parse()?))
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs all clients in this process, which `Clients::start` has started.
pub(crate) fn run(address: &str, count: usize) -> Result<ExitCode> {
    raise_open_files()?;
    let address = address.parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    runtime.block_on(all(address, count))?;
    Ok(ExitCode::SUCCESS)
}

async fn all(address: SocketAddr, count: usize) -> Result<()> {
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let (answered, mut answers) = mpsc::unbounded_channel();
    let clients: Vec<_> = (0..count)
        .map(|_| tokio::spawn(one(address, turns.clone(), answered.clone())))
        .collect();
    drop(answered);
    let mut open = 0;
    while open < count {
        answers.recv().await.ok_or("a client was not answered")?;
        open += 1;
    }
    println!("connected");
    io::stdout().flush()?;
    let mut orderly = 0;
    for client in clients {
        orderly += usize::from(client.await?.is_ok());
    }
    println!("{orderly} {}", now().as_nanos());
    Ok(())
}

async fn one(
    address: SocketAddr,
    turns: Arc<Semaphore>,
    answered: mpsc::UnboundedSender<()>,
) -> Result<()> {
    let turn = turns.acquire().await?;
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(REQUEST).await?;
    let mut buffer = [0; 4096];
    let length = stream.read(&mut buffer).await?;
    if !buffer[..length].starts_with(b"HTTP/1.1 200") {
        return Err("no answer".into());
    }
    drop(turn);
    let _ = answered.send(());
    drop(answered);
    // Reads until the server closes the connection. The first read may have left a rest of the short response.
    while stream.read(&mut buffer).await? > 0 {}
    Ok(())
}

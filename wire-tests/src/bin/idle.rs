//! Prints a table of how long a shutdown takes with many idle connections, and how much memory is left afterwards.
//!
//! ```sh
//! cargo run --release --bin idle
//! ```
//!
//! The server runs in its own process, which is started again for each measurement. Its clients are in this process.

use std::alloc::System;
use std::future::IntoFuture;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use axum::serve::ListenerExt;
use bytes::Bytes;
use cap::Cap;
use h2::client::SendRequest;
use http::Request;
use lifecycle_http::HttpServer;
use lifecycle_runtime::{BoxError, GracefulShutdown};
use lifecycle_wire_tests::app::{ANSWER, app};
use lifecycle_wire_tests::load::descriptors;
use lifecycle_wire_tests::server::Server;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// The allocator of the process, which counts the bytes that are allocated.
#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

const ROUNDS: usize = 5;
const COUNTS: [usize; 4] = [0, 100, 1_000, 10_000];

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let all = getrlimit(Resource::Nofile).maximum;
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: all,
            maximum: all,
        },
    )?;
    match std::env::args().nth(1).as_deref() {
        Some("plain") => serve_plain().await,
        Some(_) => serve().await,
        None => table().await,
    }
}

/// Reads lines from standard input until the line `stop`. Prints the memory and the descriptors in use for each other
/// line.
async fn until_stopped() -> Result<Instant, BoxError> {
    let mut input = BufReader::new(tokio::io::stdin()).lines();
    while input.next_line().await?.is_some_and(|line| line != "stop") {
        println!("{} {}", HEAP.allocated(), descriptors(std::process::id()));
    }
    Ok(Instant::now())
}

fn stopped(start: Instant) {
    let took = start.elapsed().as_micros();
    println!(
        "{took} {} {}",
        HEAP.allocated(),
        descriptors(std::process::id())
    );
}

async fn serve() -> Result<(), BoxError> {
    let http = HttpServer::bind("127.0.0.1:0")
        .await?
        .connections(usize::MAX.try_into()?)
        .serve(app());
    println!("{}", http.addresses()[0]);
    let mut server = Server::new(http);
    let start = until_stopped().await?;
    let report = server.shutdown().await;
    stopped(start);
    report.into_result()?;
    Ok(())
}

/// Serves the application with axum's own server.
async fn serve_plain() -> Result<(), BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let (stop, start) = oneshot::channel();
    let serve = axum::serve(
        listener.tap_io(|stream| drop(stream.set_nodelay(true))),
        app(),
    );
    let serving = tokio::spawn(
        serve
            .with_graceful_shutdown(async { drop(start.await) })
            .into_future(),
    );
    let start = until_stopped().await?;
    let _ = stop.send(());
    serving.await??;
    stopped(start);
    Ok(())
}

async fn table() -> Result<(), BoxError> {
    println!("| idle | axum's own server | `HttpServer` | a connection | left after the stop |");
    println!("|---|---:|---:|---:|---:|");
    for h2 in [false, true] {
        for count in COUNTS {
            let (mut plain, mut ours) = (Vec::new(), Vec::new());
            // The two servers take turns, so that a disturbance of the machine affects both of them.
            for _ in 0..ROUNDS {
                plain.push(round("plain", count, h2).await?);
                ours.push(round("ours", count, h2).await?);
            }
            plain.sort_by_key(|round| round.took);
            ours.sort_by_key(|round| round.took);
            let median = &ours[ROUNDS / 2];
            println!(
                "| {count} over {} | {} | {} | {} bytes | {} bytes, {} descriptors |",
                if h2 { "h2" } else { "h1" },
                times(&plain),
                times(&ours),
                median.each,
                median.left,
                median.descriptors,
            );
        }
    }
    Ok(())
}

/// Formats the median, the shortest and the longest time of the rounds.
fn times(sorted: &[Round]) -> String {
    let millis = |at: usize| sorted[at].took.as_secs_f64() * 1e3;
    let (first, median, last) = (millis(0), millis(ROUNDS / 2), millis(ROUNDS - 1));
    format!("{median:.1} ms ({first:.1} to {last:.1})")
}

struct Round {
    took: Duration,
    /// The bytes of the heap that each connection takes.
    each: isize,
    left: isize,
    descriptors: isize,
}

async fn round(kind: &str, count: usize, h2: bool) -> Result<Round, BoxError> {
    let mut server = Process::start(kind).await?;
    // The first connections allocate memory that all later connections share. So they are opened before the
    // measurement.
    drop(clients(server.address, 10, h2).await?);
    sleep(Duration::from_millis(500)).await;
    let before = server.says("count").await?;
    let clients = clients(server.address, count, h2).await?;
    // For a short time after a response, the server does not count a connection as idle. This waits until all
    // connections are idle.
    sleep(Duration::from_millis(500)).await;
    let with = server.says("count").await?;
    let after = server.says("stop").await?;
    for client in clients {
        client.ends_in_order().await?;
    }
    server.ends().await?;
    let divisor = count.max(1) as isize;
    Ok(Round {
        took: Duration::from_micros(after[0].try_into()?),
        each: (with[0] - before[0]) / divisor,
        left: after[1] - before[0],
        descriptors: after[2] - before[1],
    })
}

struct Process {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    address: SocketAddr,
}

impl Process {
    async fn start(kind: &str) -> Result<Self, BoxError> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(kind)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let input = child.stdin.take().ok_or("it has an input")?;
        let mut output = BufReader::new(child.stdout.take().ok_or("it has an output")?).lines();
        let address = output.next_line().await?.ok_or("it ended")?.parse()?;
        Ok(Self {
            child,
            input,
            output,
            address,
        })
    }

    /// Sends a line to the server, and returns the numbers of its reply.
    async fn says(&mut self, word: &str) -> Result<Vec<isize>, BoxError> {
        self.input.write_all(format!("{word}\n").as_bytes()).await?;
        let line = self.output.next_line().await?.ok_or("it ended")?;
        let numbers = line.split(' ').map(str::parse).collect::<Result<_, _>>();
        Ok(numbers?)
    }

    async fn ends(mut self) -> Result<(), BoxError> {
        let status = self.child.wait().await?;
        status
            .success()
            .then_some(())
            .ok_or(status.to_string().into())
    }
}

enum Client {
    H1(TcpStream),
    H2(SendRequest<Bytes>, JoinHandle<Result<(), h2::Error>>),
}

async fn clients(address: SocketAddr, count: usize, h2: bool) -> Result<Vec<Client>, BoxError> {
    let mut clients = Vec::with_capacity(count);
    for _ in 0..count {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        clients.push(if h2 {
            Client::h2(stream).await?
        } else {
            Client::h1(stream).await?
        });
    }
    Ok(clients)
}

impl Client {
    async fn h1(mut stream: TcpStream) -> Result<Self, BoxError> {
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            .await?;
        stream.read_exact(&mut [0; ANSWER]).await?;
        Ok(Self::H1(stream))
    }

    async fn h2(stream: TcpStream) -> Result<Self, BoxError> {
        let (mut send, connection) = h2::client::handshake(stream).await?;
        let driver = tokio::spawn(connection);
        let (answer, _) = send.send_request(Request::get("http://a/").body(())?, true)?;
        let mut body = answer.await?.into_body();
        while let Some(data) = body.data().await {
            body.flow_control().release_capacity(data?.len())?;
        }
        Ok(Self::H2(send, driver))
    }

    async fn ends_in_order(self) -> Result<(), BoxError> {
        match self {
            // Reads the rest of the response, until the server closes the connection.
            Self::H1(mut stream) => drop(stream.read_to_end(&mut Vec::new()).await?),
            Self::H2(_send, driver) => driver.await??,
        }
        Ok(())
    }
}

//! Load for a server that shuts down: clients that check every byte of their responses, and the server's process.

use std::io;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::app::answer;

/// The counts of the responses and failures that the clients saw.
#[derive(Debug, Default)]
pub struct Tally {
    /// The number of responses that were complete and right, byte for byte.
    pub whole: AtomicU64,
    /// The number of responses that began, but were cut or wrong.
    pub broken: AtomicU64,
    /// The number of requests for which no byte of a response came.
    pub unanswered: AtomicU64,
    /// The number of connections that could not be opened.
    pub refused: AtomicU64,
}

impl Tally {
    pub fn get(of: &AtomicU64) -> u64 {
        of.load(Ordering::Relaxed)
    }
}

fn count(of: &AtomicU64) {
    of.fetch_add(1, Ordering::Relaxed);
}

/// Sends requests over HTTP/1.1 until `end` is set. Opens a new connection whenever a response says
/// `connection: close`.
pub async fn ask_h1(address: SocketAddr, tally: Arc<Tally>, end: Arc<AtomicBool>) {
    let expected = answer();
    while !end.load(Ordering::Relaxed) {
        let Ok(mut stream) = TcpStream::connect(address).await else {
            count(&tally.refused);
            // The connection was refused, because the process has ended, or because its successor has not started yet.
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        while !end.load(Ordering::Relaxed) {
            match ask(&mut stream, &expected).await {
                Asked::Whole { last } => {
                    count(&tally.whole);
                    if last {
                        break;
                    }
                }
                Asked::Broken => {
                    count(&tally.broken);
                    break;
                }
                Asked::Unanswered => {
                    count(&tally.unanswered);
                    break;
                }
            }
        }
    }
}

enum Asked {
    Whole { last: bool },
    Broken,
    Unanswered,
}

async fn ask(stream: &mut TcpStream, expected: &[u8]) -> Asked {
    if stream
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .is_err()
    {
        return Asked::Unanswered;
    }
    let mut answer = Vec::with_capacity(expected.len() + 512);
    loop {
        match stream.read_buf(&mut answer).await {
            Ok(0) | Err(_) if answer.is_empty() => return Asked::Unanswered,
            Ok(0) | Err(_) => return Asked::Broken,
            Ok(_) => {}
        }
        let Some(head) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let body = &answer[head + 4..];
        if body.len() >= expected.len() {
            let head = String::from_utf8_lossy(&answer[..head]).to_ascii_lowercase();
            let last = head.contains("connection: close");
            let right = head.starts_with("http/1.1 200") && body == expected;
            return if right {
                Asked::Whole { last }
            } else {
                Asked::Broken
            };
        }
    }
}

/// Sends requests over HTTP/2, several streams at a time, until `end` is set. If the server did not begin a stream, its
/// request is sent again on a new connection.
pub async fn ask_h2(address: SocketAddr, tally: Arc<Tally>, end: Arc<AtomicBool>) {
    let expected = answer();
    while !end.load(Ordering::Relaxed) {
        let Ok(stream) = TcpStream::connect(address).await else {
            count(&tally.refused);
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let Ok((mut send, connection)) = h2::client::handshake(stream).await else {
            count(&tally.unanswered);
            continue;
        };
        let driver = tokio::spawn(connection);
        while !end.load(Ordering::Relaxed) {
            if std::future::poll_fn(|cx| send.poll_ready(cx))
                .await
                .is_err()
            {
                break;
            }
            let streams: Vec<_> = (0..8)
                .map_while(|_| {
                    let request = Request::get("http://a/").body(()).expect("it is valid");
                    send.send_request(request, true).ok()
                })
                .collect();
            for (answer, _) in streams {
                one_of_h2(answer, &expected, &tally).await;
            }
        }
        drop(send);
        let _ = driver.await;
    }
}

async fn one_of_h2(answer: h2::client::ResponseFuture, expected: &[u8], tally: &Tally) {
    let mut body = match answer.await {
        Ok(answer) => answer.into_body(),
        // The stream came after the final GOAWAY. So the server did not begin it, and it is safe to send the request
        // again.
        Err(error) if is_retriable(&error) => return,
        Err(_) => return count(&tally.unanswered),
    };
    let mut read: Vec<u8> = Vec::new();
    while let Some(data) = body.data().await {
        let Ok(data): Result<Bytes, _> = data else {
            return count(&tally.broken);
        };
        let _ = body.flow_control().release_capacity(data.len());
        read.extend_from_slice(&data);
    }
    count(if read == expected {
        &tally.whole
    } else {
        &tally.broken
    });
}

fn is_retriable(error: &h2::Error) -> bool {
    error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR)
        || error.reason() == Some(h2::Reason::REFUSED_STREAM)
}

/// Returns how many file descriptors a process has open.
pub fn descriptors(process: u32) -> usize {
    std::fs::read_dir(format!("/proc/{process}/fd")).map_or(0, Iterator::count)
}

pub async fn signal(process: u32, name: &str) {
    let sent = Command::new("kill")
        .args(["-s", name, &process.to_string()])
        .status()
        .await;
    assert!(sent.is_ok_and(|status| status.success()));
}

/// A server in its own process.
pub struct Process {
    child: Child,
    pub address: SocketAddr,
    stdout: BufReader<tokio::process::ChildStdout>,
}

impl Process {
    /// Starts the binary at `path`, which inherits the listening socket.
    pub async fn start(path: &str, listener: &std::net::TcpListener) -> io::Result<Self> {
        Self::start_with(path, listener, []).await
    }

    /// Starts the binary as [`start`](Self::start) does, with additional variables in the environment of the process.
    pub async fn start_with(
        path: &str,
        listener: &std::net::TcpListener,
        variables: impl IntoIterator<Item = (&str, &str)>,
    ) -> io::Result<Self> {
        let mut child = Command::new(path)
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(
                listener.try_clone()?,
            )))
            .stdout(Stdio::piped())
            .envs(variables)
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut stdout = BufReader::new(stdout);
        let mut ready = String::new();
        stdout.read_line(&mut ready).await?;
        assert_eq!(ready, "ready\n");
        Ok(Self {
            child,
            address: listener.local_addr()?,
            stdout,
        })
    }

    pub fn id(&self) -> u32 {
        self.child.id().expect("it was not awaited")
    }

    pub async fn terminate(&self) {
        signal(self.id(), "TERM").await;
    }

    /// Waits for the end of the process. Returns its exit code and the report that it printed.
    pub async fn ended(mut self) -> (Option<i32>, String) {
        let mut report = String::new();
        let _ = self.stdout.read_to_string(&mut report).await;
        let status = self.child.wait().await.expect("it is a child");
        (status.code(), report)
    }
}

//! The cases of the README's table: connections in different states when the server shuts down.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::app::ANSWER;
use crate::subject::{Kind, Subject};

/// The observed shutdown of a server.
#[derive(Debug)]
pub struct Seen {
    /// The time that the shutdown took, or `None` if it hung.
    pub took: Option<Duration>,
    /// The result of the shutdown as the client saw it, in words.
    pub client: &'static str,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.took {
            None => write!(f, "hangs; {}", self.client),
            Some(took) => write!(f, "{:.1} ms; {}", took.as_secs_f64() * 1e3, self.client),
        }
    }
}

type Run = fn(Subject) -> Pin<Box<dyn Future<Output = Seen>>>;

/// A row of the table: the state of a connection, and what its client sees when axum's server or `HttpServer` shuts
/// down.
pub struct Row {
    pub name: &'static str,
    pub plain: Cell,
    pub ours: Cell,
    run: Run,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// The shutdown ends. The client sees the result in this text, and the result is right.
    Well(&'static str),
    /// The shutdown ends. The client sees the result in this text, and the result is wrong.
    Badly(&'static str),
    Hangs,
}
use Cell::{Badly, Hangs, Well};

impl Cell {
    pub fn is(self, seen: &Seen) -> bool {
        match self {
            Well(client) | Badly(client) => seen.took.is_some() && seen.client == client,
            Hangs => seen.took.is_none(),
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Well(client) => f.write_str(client),
            Badly(client) => write!(f, "**{client}**"),
            Hangs => f.write_str("**hangs**"),
        }
    }
}

/// Formats the row as the README's table shows it.
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "| {} | {} | {} |", self.name, self.plain, self.ours)
    }
}

impl Row {
    pub async fn run(&self, kind: Kind) -> Seen {
        (self.run)(Subject::start(kind).await).await
    }

    pub fn expected(&self, kind: Kind) -> Cell {
        match kind {
            Kind::Plain => self.plain,
            Kind::Ours => self.ours,
        }
    }
}

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const HALF_A_HEAD: &str = "GET / HTTP/1.1\r\nho";
const HALF_A_BODY: &str = "POST /upload HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n12345";
const GET_BIG: &str = "GET /big HTTP/1.1\r\nhost: a\r\n\r\n";
const HALF_A_PREFACE: &str = "PRI * HTTP/2.0\r\n\r\nS";
const PREFACE: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const PREFACE_AND_SETTINGS: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

macro_rules! rows {
    ($($name:literal, $plain:expr, $ours:expr => $run:ident($($text:expr)?);)*) => {
        &[$(Row {
            name: $name,
            plain: $plain,
            ours: $ours,
            run: |it| Box::pin($run(it $(, $text)?)),
        }),*]
    };
}

/// The rows of the table. Each has the name of the case, the result with axum's own server, and the result with
/// `HttpServer`.
pub const ALL: &[Row] = rows! {
    "h1 idle", Well("closed"), Well("closed") => h1_idle();
    "h1, next request 50 ms after an answer", Badly("lost"), Well("answered with `Connection: close`") => h1_dialogue();
    "h1 in flight", Well("answered with `Connection: close`"), Well("answered with `Connection: close`") => h1_in_flight();
    "in the accept queue, not accepted yet", Badly("some of 20 lost"), Well("all of 20 answered") => queued();
    "h1 endless SSE", Hangs, Well("ended after an event, with `retry:`") => events();
    "WebSocket over h1", Badly("lives on, gets no close frame"), Well("close code 1001, closed") => websocket();
    "WebSocket over h2 (RFC 8441)", Hangs, Well("close code 1001, closed") => h2_websocket();
    "h2 idle", Well("GOAWAY, closed"), Well("GOAWAY, closed") => h2_idle();
    "h2 in flight", Well("answered"), Well("answered") => h2_in_flight();
    "silent after connect", Well("closed"), Well("closed") => says("");
    "half an h2 preface", Well("closed"), Well("closed") => says(HALF_A_PREFACE);
    "h1 half a request head", Hangs, Well("closed") => says(HALF_A_HEAD);
    "h1 slowloris, a header every 50 ms", Hangs, Well("closed") => trickles();
    "h1 half a body", Hangs, Well("closed") => says(HALF_A_BODY);
    "h1 client that never reads 20 MB", Hangs, Well("closed") => says(GET_BIG);
    "h1 reset in flight", Well("forgotten"), Well("forgotten") => resets();
    "h2 preface, then silence", Hangs, Well("closed") => says(PREFACE);
    "h2 client that never acknowledges", Hangs, Well("closed") => says(PREFACE_AND_SETTINGS);
    "h2 client that never reads 20 MB", Hangs, Well("closed") => h2_never_reads();
};

async fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).await.expect("it listens");
    stream.set_nodelay(true).expect("it is TCP");
    stream
}

/// Waits until the server has read all bytes that the client sent, and counts the connection as idle.
async fn settle() {
    sleep(Duration::from_millis(400)).await;
}

/// Reads one response. Returns whether the response says that it is the last one on the connection.
async fn hears(stream: &mut TcpStream) -> Option<bool> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    stream.read_exact(&mut vec![0; ANSWER]).await.ok()?;
    Some(String::from_utf8_lossy(&head).contains("connection: close"))
}

async fn h1_idle(it: Subject) -> Seen {
    let mut client = connect(it.address).await;
    client.write_all(GET.as_bytes()).await.expect("it is sent");
    hears(&mut client).await.expect("it is answered");
    settle().await;
    let took = it.stop().await;
    closed(took, client).await
}

async fn closed(took: Option<Duration>, mut client: TcpStream) -> Seen {
    let read = timeout(Duration::from_millis(100), client.read(&mut [0; 1])).await;
    let client = if read.is_ok() { "closed" } else { "left open" };
    Seen { took, client }
}

async fn h1_dialogue(it: Subject) -> Seen {
    let mut client = connect(it.address).await;
    client.write_all(GET.as_bytes()).await.expect("it is sent");
    hears(&mut client).await.expect("it is answered");
    let (took, answer) = tokio::join!(it.stop(), async {
        sleep(Duration::from_millis(50)).await;
        let _ = client.write_all(GET.as_bytes()).await;
        hears(&mut client).await
    });
    Seen {
        took,
        client: answered(answer),
    }
}

fn answered(answer: Option<bool>) -> &'static str {
    match answer {
        Some(true) => "answered with `Connection: close`",
        Some(false) => "answered",
        None => "lost",
    }
}

async fn says(it: Subject, text: &str) -> Seen {
    let mut client = connect(it.address).await;
    client.write_all(text.as_bytes()).await.expect("it is sent");
    settle().await;
    let took = it.stop().await;
    // The client first reads the data that the server had sent before the shutdown, and then the end of the connection.
    let mut rest = Vec::new();
    let end = timeout(Duration::from_secs(1), client.read_to_end(&mut rest)).await;
    let client = if end.is_ok() { "closed" } else { "left open" };
    Seen { took, client }
}

/// Sends a request head that never ends.
async fn trickles(it: Subject) -> Seen {
    let mut client = connect(it.address).await;
    let head = b"GET / HTTP/1.1\r\n";
    client.write_all(head).await.expect("it is sent");
    let trickle = async {
        while client.write_all(b"a: b\r\n").await.is_ok() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = trickle => Seen { took: None, client: "closed before" },
        took = async {
            settle().await;
            it.stop().await
        } => closed(took, client).await,
    }
}

/// Resets the connection while a request of the client is in flight.
async fn resets(it: Subject) -> Seen {
    let mut client = connect(it.address).await;
    let ask = b"GET /slow?ms=60000 HTTP/1.1\r\nhost: a\r\n\r\n";
    client.write_all(ask).await.expect("it is sent");
    settle().await;
    client.set_zero_linger().expect("it is TCP");
    drop(client);
    let took = it.stop().await;
    Seen {
        took,
        client: "forgotten",
    }
}

/// Requests a large body over h2, and never opens the window.
async fn h2_never_reads(it: Subject) -> Seen {
    let (mut send, driver) = h2(it.address).await;
    let request = Request::get("http://a/big").body(()).expect("it is valid");
    let (answer, _) = send.send_request(request, true).expect("it is sent");
    let _body = answer.await.expect("it is answered").into_body();
    settle().await;
    let took = it.stop().await;
    let ended = timeout(Duration::from_millis(100), driver).await;
    let client = if ended.is_ok() { "closed" } else { "left open" };
    Seen { took, client }
}

async fn h1_in_flight(it: Subject) -> Seen {
    let mut client = connect(it.address).await;
    client
        .write_all(b"GET /slow?ms=500 HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .expect("it is sent");
    settle().await;
    let (took, answer) = tokio::join!(it.stop(), hears(&mut client));
    Seen {
        took,
        client: answered(answer),
    }
}

async fn events(it: Subject) -> Seen {
    let mut client = connect(it.address).await;
    client
        .write_all(b"GET /events HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .expect("it is sent");
    settle().await;
    let mut text = Vec::new();
    let (took, whole) = tokio::join!(it.stop(), async {
        timeout(Duration::from_secs(4), client.read_to_end(&mut text))
            .await
            .is_ok()
    });
    let text = String::from_utf8_lossy(&text);
    let client = match (
        text.contains("retry: "),
        whole && text.ends_with("0\r\n\r\n"),
    ) {
        (true, true) => "ended after an event, with `retry:`",
        (false, true) => "ended",
        _ => "goes on",
    };
    Seen { took, client }
}

async fn websocket(it: Subject) -> Seen {
    let stream = connect(it.address).await;
    let (mut client, _) = tokio_tungstenite::client_async("ws://a/ws", stream)
        .await
        .expect("it upgrades");
    client.send("hello".into()).await.expect("it is sent");
    client
        .next()
        .await
        .expect("it is echoed")
        .expect("it is echoed");
    let (took, last) = tokio::join!(
        it.stop(),
        timeout(Duration::from_secs(1), async {
            let last = client.next().await;
            while client.next().await.is_some() {}
            last
        })
    );
    let client = match last {
        Ok(Some(Ok(Message::Close(Some(frame))))) if u16::from(frame.code) == 1001 => {
            "close code 1001, closed"
        }
        Ok(_) => "cut",
        Err(_) => "lives on, gets no close frame",
    };
    Seen { took, client }
}

async fn h2(
    address: SocketAddr,
) -> (
    h2::client::SendRequest<Bytes>,
    tokio::task::JoinHandle<Result<(), h2::Error>>,
) {
    let (send, connection) = h2::client::handshake(connect(address).await)
        .await
        .expect("it speaks h2");
    (send, tokio::spawn(connection))
}

async fn h2_idle(it: Subject) -> Seen {
    let (mut send, driver) = h2(it.address).await;
    let request = Request::get("http://a/").body(()).expect("it is valid");
    send.send_request(request, true)
        .expect("it is sent")
        .0
        .await
        .expect("it is answered");
    settle().await;
    let took = it.stop().await;
    let ended = timeout(Duration::from_millis(100), driver).await;
    let client = if matches!(ended, Ok(Ok(Ok(())))) {
        "GOAWAY, closed"
    } else {
        "cut"
    };
    Seen { took, client }
}

async fn h2_in_flight(it: Subject) -> Seen {
    let (mut send, _driver) = h2(it.address).await;
    let request = Request::get("http://a/slow?ms=500")
        .body(())
        .expect("it is valid");
    let (answer, _) = send.send_request(request, true).expect("it is sent");
    settle().await;
    let (took, read) = tokio::join!(it.stop(), async {
        let mut body = answer.await.ok()?.into_body();
        let mut read = 0;
        while let Some(data) = body.data().await {
            read += data.ok()?.len();
        }
        Some(read)
    });
    let client = if read == Some(ANSWER) {
        "answered"
    } else {
        "lost"
    };
    Seen { took, client }
}

/// Opens a WebSocket over h2, which the client never closes by itself.
async fn h2_websocket(it: Subject) -> Seen {
    let (mut send, _driver) = h2(it.address).await;
    let enabled = async {
        while !send.is_extended_connect_protocol_enabled() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    if timeout(Duration::from_secs(1), enabled).await.is_err() {
        return Seen {
            took: it.stop().await,
            client: "cannot be had",
        };
    }
    let mut request = Request::connect("http://a/ws")
        .header("sec-websocket-version", "13")
        .body(())
        .expect("it is valid");
    request
        .extensions_mut()
        .insert(h2::ext::Protocol::from_static("websocket"));
    let (answer, mut out) = send.send_request(request, false).expect("it is sent");
    let mut body = answer.await.expect("it upgrades").into_body();
    settle().await;
    let (took, last) = tokio::join!(
        it.stop(),
        timeout(Duration::from_secs(1), async {
            let frame = body.data().await?.ok()?;
            // The client answers with a masked close of the same code, as RFC 6455 §5.5.1 says.
            let _ = out.send_data(
                Bytes::from_static(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9]),
                true,
            );
            Some(frame)
        })
    );
    let client = match last {
        Ok(Some(frame)) if frame[..] == [0x88, 0x02, 0x03, 0xe9] => "close code 1001, closed",
        Ok(_) => "cut",
        Err(_) => "lives on, gets no close frame",
    };
    Seen { took, client }
}

/// Connects while the server is not polled, so that the connections wait in the kernel's accept queue.
async fn queued(it: Subject) -> Seen {
    settle().await;
    let mut clients: Vec<_> = (0..20)
        .map(|_| {
            let mut client = std::net::TcpStream::connect(it.address).expect("it listens");
            std::io::Write::write_all(&mut client, GET.as_bytes()).expect("it is sent");
            client
        })
        .collect();
    let took = it.stop().await;
    let mut lost = 0;
    for client in &mut clients {
        let mut answer = Vec::new();
        let _ = client.set_read_timeout(Some(Duration::from_secs(1)));
        let _ = std::io::Read::read_to_end(client, &mut answer);
        lost += usize::from(answer.len() < ANSWER);
    }
    let client = if lost == 0 {
        "all of 20 answered"
    } else {
        "some of 20 lost"
    };
    Seen { took, client }
}

//! Connections, each in a state of its own when the server stops.

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

/// What a stop was like.
#[derive(Debug)]
pub struct Seen {
    /// `None`: it hung.
    pub took: Option<Duration>,
    /// What the client saw.
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

/// Every row: its name, and what happens.
pub const ALL: &[(&str, Run)] = &[
    ("h1 idle keep-alive", |it| Box::pin(h1_idle(it))),
    ("h1 in dialogue, next request 50 ms later", |it| {
        Box::pin(h1_dialogue(it))
    }),
    ("silent after connect", |it| Box::pin(says(it, ""))),
    ("partial h2 preface", |it| {
        Box::pin(says(it, "PRI * HTTP/2.0\r\n\r\nS"))
    }),
    ("h1 in flight", |it| Box::pin(h1_in_flight(it))),
    ("h1 half a request head", |it| {
        Box::pin(says(it, "GET / HTTP/1.1\r\nho"))
    }),
    ("h1 half a body", |it| {
        Box::pin(says(
            it,
            "POST /upload HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n12345",
        ))
    }),
    ("h1 client that never reads 20 MB", |it| {
        Box::pin(says(it, "GET /big HTTP/1.1\r\nhost: a\r\n\r\n"))
    }),
    ("h1 endless SSE", |it| Box::pin(events(it))),
    ("WebSocket over h1", |it| Box::pin(websocket(it))),
    ("WebSocket over h2 (RFC 8441)", |it| {
        Box::pin(h2_websocket(it))
    }),
    ("h2 idle", |it| Box::pin(h2_idle(it))),
    ("h2 in flight", |it| Box::pin(h2_in_flight(it))),
    ("h2 preface, then silence", |it| {
        Box::pin(says(it, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
    }),
    ("h2 client that never acknowledges", |it| {
        Box::pin(says(
            it,
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        ))
    }),
    ("in the accept queue, not accepted yet", |it| {
        Box::pin(queued(it))
    }),
];

pub async fn run(name: &str, kind: Kind) -> Seen {
    let (_, run) = ALL
        .iter()
        .find(|(known, _)| *known == name)
        .expect("the case is known");
    run(Subject::start(kind).await).await
}

async fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).await.expect("it listens");
    stream.set_nodelay(true).expect("it is TCP");
    stream
}

/// Long enough for the server to have read what was sent, and for a dialogue to be over.
async fn settle() {
    sleep(Duration::from_millis(400)).await;
}

/// Reads one answer of `/` or its like. Whether it says that it is the last.
async fn hears(stream: &mut TcpStream) -> Option<bool> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    stream.read_exact(&mut vec![0; ANSWER]).await.ok()?;
    Some(String::from_utf8_lossy(&head).contains("connection: close"))
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

async fn h1_idle(it: Subject) -> Seen {
    let mut client = connect(it.address).await;
    client.write_all(GET).await.expect("it is sent");
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
    client.write_all(GET).await.expect("it is sent");
    hears(&mut client).await.expect("it is answered");
    let (took, answer) = tokio::join!(it.stop(), async {
        sleep(Duration::from_millis(50)).await;
        let _ = client.write_all(GET).await;
        hears(&mut client).await
    });
    Seen {
        took,
        client: answered(answer),
    }
}

fn answered(answer: Option<bool>) -> &'static str {
    match answer {
        Some(true) => "answered, told to close",
        Some(false) => "answered",
        None => "lost",
    }
}

async fn says(it: Subject, text: &str) -> Seen {
    let mut client = connect(it.address).await;
    client.write_all(text.as_bytes()).await.expect("it is sent");
    settle().await;
    let took = it.stop().await;
    let client = if took.is_some() {
        "closed"
    } else {
        "left open"
    };
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
        (true, true) => "ended after an event, told when to come back",
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
            "told 1001, closed"
        }
        Ok(_) => "cut",
        Err(_) => "lives on, told nothing",
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

/// A stream that stays open for as long as its client likes.
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
            // It answers, as RFC 6455 §5.5.1 asks: a masked close with the same code.
            let _ = out.send_data(
                Bytes::from_static(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9]),
                true,
            );
            Some(frame)
        })
    );
    let client = match last {
        Ok(Some(frame)) if frame[..] == [0x88, 0x02, 0x03, 0xe9] => "told 1001, closed",
        Ok(_) => "cut",
        Err(_) => "lives on, told nothing",
    };
    Seen { took, client }
}

/// The kernel has completed it; the server has not been polled since.
async fn queued(it: Subject) -> Seen {
    settle().await;
    let mut clients: Vec<_> = (0..20)
        .map(|_| {
            let mut client = std::net::TcpStream::connect(it.address).expect("it listens");
            std::io::Write::write_all(&mut client, GET).expect("it is sent");
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

//! A chat server. Members talk over WebSockets, and an audience listens to server-sent events. The server tells each
//! client of the shutdown in the way of the client's protocol.
//!
//! [`HttpServer`] ends the event streams by itself. A WebSocket handler waits for [`HttpConnection::cancelled`] beside
//! its messages, and then closes the WebSocket with code 1001 (going away).
//!
//! The example ends by itself: two members talk, a listener hears them, and the shutdown begins while all are connected.
//! Run it with `cargo run` in this directory.

use std::convert::Infallible;
use std::net::SocketAddr;

use axum::Router;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Extension, State};
use axum::response::Response;
use axum::response::sse::{Event, Sse};
use axum::routing::{any, get};
use futures_util::{SinkExt, Stream, StreamExt, stream};
use lifecycle_http::{HttpConnection, HttpServer, Probes};
use lifecycle_runtime::{
    BoxError, GracefulShutdown, Readiness, Reason, Report, Runner, ShutdownHandle, ShutdownState,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::broadcast;
use tokio_tungstenite::tungstenite;

#[derive(GracefulShutdown)]
#[shutdown(strict, timeout = "25s")]
struct Server {
    #[shutdown(priority = 10, timeout = "20s")]
    http: HttpServer,
    #[shutdown(state)]
    state: ShutdownState,
}

/// The part of the server that handlers hold: a channel to all clients in the room.
type Room = broadcast::Sender<String>;

#[tokio::main]
async fn main() -> Result<Report, BoxError> {
    let readiness = Readiness::new();
    let probes = Probes::new(&readiness);
    let app = Router::new()
        .route("/speak", any(speak))
        .route("/listen", get(listen))
        .with_state(Room::new(64))
        .fallback_service(probes);
    let server = Server {
        http: HttpServer::bind("127.0.0.1:0").await?.serve(app),
        state: ShutdownState::new(),
    };
    let address = server.http.addresses()[0];
    readiness.set_ready();

    let handle = ShutdownHandle::new();
    let visitors = tokio::spawn(visit(address, handle.clone()));
    let report = Runner::new(server)
        .handle(&handle)
        .readiness(&readiness)
        .run_until_signal()
        .await;
    println!("{report}\n");
    println!("{}", visitors.await??);
    Ok(report)
}

async fn speak(
    State(room): State<Room>,
    Extension(connection): Extension<HttpConnection>,
    upgrade: WebSocketUpgrade,
) -> Response {
    upgrade.on_upgrade(async move |socket| talk(socket, room, connection).await)
}

async fn talk(mut socket: WebSocket, room: Room, connection: HttpConnection) {
    let mut others = room.subscribe();
    let mut closing = std::pin::pin!(connection.cancelled());
    loop {
        tokio::select! {
            said = socket.recv() => match said {
                // Sending fails if no client listens to the room, which is fine.
                Some(Ok(Message::Text(text))) => drop(room.send(text.to_string())),
                Some(Ok(_)) => {}
                None | Some(Err(_)) => return,
            },
            Ok(text) = others.recv() => {
                if socket.send(Message::Text(text.into())).await.is_err() {
                    return;
                }
            }
            _ = &mut closing => break,
        }
    }
    let away = CloseFrame {
        code: close_code::AWAY,
        reason: "the server restarts".into(),
    };
    if socket.send(Message::Close(Some(away))).await.is_ok() {
        // The client's close frame ends the loop. A client that sends no close frame is cut at the server's deadline.
        while let Some(Ok(_)) = socket.recv().await {}
    }
}

/// Streams the messages of the room to a client. The handler need not watch for the shutdown, since `HttpServer` ends
/// the stream after a complete event.
async fn listen(State(room): State<Room>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    Sse::new(stream::unfold(room.subscribe(), async |mut room| {
        let text = room.recv().await.ok()?;
        Some((Ok(Event::default().data(text)), room))
    }))
}

/// Connects two members and a listener, which stay connected until the server closes their connections.
async fn visit(address: SocketAddr, handle: ShutdownHandle) -> Result<String, BoxError> {
    let mut audience = TcpStream::connect(address).await?;
    audience
        .write_all(b"GET /listen HTTP/1.1\r\nhost: chat\r\n\r\n")
        .await?;
    // Once the head of the response has come, the listener receives every later message.
    audience.read_buf(&mut Vec::with_capacity(4096)).await?;
    let url = format!("ws://{address}/speak");
    let (mut alice, _) = tokio_tungstenite::connect_async(&url).await?;
    let (mut bob, _) = tokio_tungstenite::connect_async(&url).await?;

    bob.send("is anybody here?".into()).await?;
    let heard = bob.next().await.ok_or("the chat ended")??;
    alice.send("good evening, bob".into()).await?;
    let answer = bob.next().await.ok_or("the chat ended")??;
    handle.request(Reason::Requested);

    let left = last(&mut alice).await?;
    last(&mut bob).await?;
    let mut text = String::new();
    audience.read_to_string(&mut text).await?;
    let retry = text.lines().any(|line| line.starts_with("retry: "));
    Ok(format!(
        "bob heard: {heard}\nbob heard: {answer}\nalice was sent away with {left}\n\
         the audience was told to come back: {retry}"
    ))
}

/// Returns the code with which the server closed the WebSocket.
async fn last<S>(socket: &mut S) -> Result<u16, BoxError>
where
    S: Stream<Item = Result<tungstenite::Message, tungstenite::Error>> + Unpin,
{
    let mut code = None;
    while let Some(Ok(message)) = socket.next().await {
        if let tungstenite::Message::Close(Some(frame)) = message {
            code = Some(frame.code.into());
        }
    }
    Ok(code.ok_or("no close frame came")?)
}
